"""The tree, judged by RFC 6962 itself: its definition written out, and the well-known answers."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstate.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Tree, leaf_hash, node_hash

# Inputs and roots of certificate-transparency's reference tests, for 0 to 8 leaves.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = st.lists(st.binary(max_size=40), max_size=70)


def mth(entries):
    """RFC 6962 2.1, word for word: k is the largest power of two smaller than n."""
    n = len(entries)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < n:
        k *= 2
    return hashlib.sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def grown(entries):
    tree = Tree()
    for entry in entries:
        tree = tree.append(leaf_hash(entry))
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_root_is_the_well_known_one(size):
    assert mth(INPUTS[:size]).hex() == ROOTS[size]
    assert grown(INPUTS[:size]).root().hex() == ROOTS[size]


def test_the_root_of_nothing_is_the_hash_of_nothing():
    assert Tree().root() == EMPTY_ROOT == hashlib.sha256().digest()


def test_a_leaf_and_a_node_of_the_same_bytes_have_different_hashes():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@given(LEAVES)
def test_the_compact_range_has_the_root_of_the_recursive_definition(entries):
    tree = grown(entries)
    assert tree.size == len(entries)
    assert tree.root() == mth(entries)


@given(LEAVES)
def test_there_is_a_peak_for_each_binary_digit_of_the_size_the_largest_first(entries):
    start, peaks = 0, []
    for power in reversed(range(len(entries).bit_length())):
        if len(entries) >> power & 1:
            peaks.append(mth(entries[start : start + (1 << power)]))
            start += 1 << power
    assert grown(entries).peaks == tuple(peaks)


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=40, unique=True), st.data())
def test_order_and_every_leaf_matter(entries, data):
    first, second = sorted(
        data.draw(
            st.lists(st.sampled_from(range(len(entries))), min_size=2, max_size=2, unique=True)
        )
    )
    swapped = list(entries)
    swapped[first], swapped[second] = entries[second], entries[first]
    without = entries[:first] + entries[first + 1 :]
    assert len({grown(some).root() for some in (entries, swapped, without)}) == 3


@given(LEAVES, st.binary(max_size=40))
def test_appending_leaves_the_tree_before_it_as_it_was(entries, more):
    tree = grown(entries)
    before = tree.root()
    assert tree.append(leaf_hash(more)).root() == mth([*entries, more])
    assert tree.root() == before


@given(LEAVES)
def test_peaks_are_read_back_as_they_were_written(entries):
    tree = grown(entries)
    data = tree.to_bytes()
    assert len(data) == HASH_BYTES * len(entries).bit_count()
    assert Tree.from_bytes(tree.size, data) == tree


@given(LEAVES, LEAVES, st.integers(-HASH_BYTES, HASH_BYTES).filter(bool))
def test_peaks_that_do_not_fit_the_size_are_refused(entries, others, change):
    size, data = len(entries), grown(entries).to_bytes()
    longer = data + bytes(change) if change > 0 else data[:change]
    if longer != data:
        with pytest.raises(ValueError, match=f"{len(longer)} bytes of peaks do not fit"):
            Tree.from_bytes(size, longer)
    if len(others).bit_count() != size.bit_count():
        with pytest.raises(ValueError, match=f"do not fit a tree of {len(others)} leaves"):
            Tree.from_bytes(len(others), data)
