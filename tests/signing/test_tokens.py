"""Tokens: made once, kept in a file, and known by their digest only."""

import base64
import hashlib
import re

import pytest

from vmstate.errors import InputError
from vmstate.keys import check_token_digest, new_token, save_token, token_digest


def test_a_token_has_256_bits_that_no_other_has_and_is_known_by_its_beginning():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert re.fullmatch(r"vmt_[A-Za-z0-9_-]{43}", token)
        assert len(base64.urlsafe_b64decode(token.removeprefix("vmt_") + "=")) == 32


def test_its_digest_is_sha256_over_its_characters():
    token = new_token()
    assert token_digest(token) == f"sha256:{hashlib.sha256(token.encode('ascii')).hexdigest()}"
    assert check_token_digest(token_digest(token)) == token_digest(token)


def test_a_token_file_can_be_read_by_its_owner_only_and_is_never_overwritten(tmp_path):
    path, token = tmp_path / "bot.token", new_token()
    save_token(token, path)
    assert path.read_text() == f"{token}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError) as caught:
        save_token(new_token(), path)
    assert str(caught.value) == f"token file {path} cannot be made: File exists"
    assert path.read_text() == f"{token}\n"


@pytest.mark.parametrize("text", [f"vmt_{'t' * 43}", "", "sha256:", f"sha256:{'A' * 64}", "a" * 64])
def test_what_stands_for_a_digest_and_is_none_is_not_repeated(text):
    with pytest.raises(InputError) as caught:
        check_token_digest(text)
    assert str(caught.value) == (
        "this is not a token's digest, write the line that `vmstate keys token` prints"
    )
