"""Addresses of resources: one is decided only where it has no second spelling."""

import pytest

from vmstate.constitution.tools import Server, ToolRule

OBSERVER, OPERATOR, GUARDIAN = (
    ToolRule(profile=name) for name in ("observer", "operator", "guardian")
)
SERVER = Server(
    resources={
        "file:///srv/*": OBSERVER,
        "file:///srv/private/*": OPERATOR,
        "file:///srv/key.pem": GUARDIAN,
        "table://books?where=*": OPERATOR,
        "memo:notes": OBSERVER,
    }
)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("file:///srv/", OBSERVER),
        ("file:///srv/a/b.txt", OBSERVER),
        ("file:///srv/a%20b/%C3%A9", OBSERVER),
        ("file:///srv/...", OBSERVER),
        ("file:///srv/.hidden", OBSERVER),
        ("file:///srv/*", OBSERVER),  # the name under which calls are counted
        ("file:///srv/private/x", OPERATOR),
        ("file:///srv/key.pem", GUARDIAN),
        ("file:///srv/key.pem/", GUARDIAN),
        ("table://books?where=id", OPERATOR),
        ("memo:notes", OBSERVER),
    ],
)
def test_a_plain_address_is_decided_by_the_pattern_that_says_most(address, rule):
    assert SERVER.rule_for("resource", address)[1] is rule


@pytest.mark.parametrize(
    "address",
    [
        "file:///srv/%70rivate/x",
        "file:///srv//private/x",
        "file:////srv/private/x",
        "file:///srv/./private/x",
        "file:///srv/.;/private/x",
        "file:///srv/private;a/x",
        "file:///srv/;a/private/x",
        "file:///srv/key.pe%6d",
        "file:///srv/key.pe%6D",
        "file:///srv/key.pem?",
        "file:///srv/key.pem#a",
        "file:///srv/key.pem;a",
        "file:///srv/a/..",
        "file:///srv/..?x",
        "file:///srv/..#x",
        "file:///srv/..;/b",
        "file:///srv/..%00/b",
        "file:///srv/a\x00",
        "file:///srv/\uff0e\uff0e/b",
        "file:///srv/..\\b",
        "file:///srv/%2e%2e/b",
        "file:///srv/%252e/b",
        "file:///srv/a%2Bb",
        "file:///srv/a b",
        "file:///srv/%c3%a9",
        "file:///srv/%zz",
        "table://books?where=a#b",
        "table://books?where=a;b",
        "FILE:///srv/a",
    ],
)
def test_an_address_with_a_second_spelling_is_decided_by_no_pattern(address):
    rules = {**SERVER.resources, "*": OBSERVER}
    assert SERVER.model_copy(update={"resources": rules}).rule_for("resource", address) is None


def test_a_tools_name_is_taken_as_it_is():
    server = Server(tools={"a*": OBSERVER})
    assert server.rule_for("tool", "a//../b?c")[1] is OBSERVER
