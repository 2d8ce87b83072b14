"""Trees and proofs are those of RFC 6962, and no other proof is accepted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from kiln_wire.merkle import (
    EMPTY_ROOT,
    Node,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

# the entries and roots that Certificate Transparency's own implementations test with
HEX = " 00 10 2021 3031 40414243 5051525354555657 606162636465666768696a6b6c6d6e6f"
ENTRIES = [bytes.fromhex(text) for text in HEX.split(" ")]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if b else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], b), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def nodes(leaves: Sequence[bytes]) -> Node:
    return lambda level, index: naive_root(leaves[index << level : (index + 1) << level])


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(f"entry {number}".encode()) for number in range(count)]


def test_known_roots() -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert root_hash(0, nodes([])) == EMPTY_ROOT
    for size, root in enumerate(ROOTS, start=1):
        assert root_hash(size, nodes(leaves)).hex() == root


@given(st.integers(1, 300), st.data())
@settings(max_examples=120, deadline=None)
def test_inclusion_proofs_are_those_of_the_rfc_and_hold_for_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(index, size, nodes(leaves)), naive_root(leaves)
    assert list(proof) == naive_path(index, leaves)
    assert root_hash(size, nodes(leaves)) == root
    assert verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(0, size - 1))
    assert verify_inclusion(leaves[other], index, size, proof, root) == (other == index)
    # (a size that gives the position the same path is told apart by the checkpoint, which signs size and root together)
    assert not verify_inclusion(leaves[index], size, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, (*proof, root), root)
    if proof:
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)
        at = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:at], bytes([proof[at][0] ^ 1]) + proof[at][1:], *proof[at + 1 :]]
        assert not verify_inclusion(leaves[index], index, size, changed, root)


@given(st.integers(0, 300), st.data())
@settings(max_examples=120, deadline=None)
def test_consistency_proofs_are_those_of_the_rfc_and_show_a_fork(size: int, data: st.DataObject) -> None:
    leaves = hashes(size)
    old = data.draw(st.integers(0, size))
    proof = consistency_proof(old, size, nodes(leaves))
    roots = naive_root(leaves[:old]), naive_root(leaves)
    if 0 < old < size:
        assert list(proof) == naive_subproof(old, leaves, True)
    assert verify_consistency(old, size, *roots, proof)
    assert not verify_consistency(old, size, *roots, (*proof, roots[0]))
    if old:
        forked = list(leaves)
        at = data.draw(st.integers(0, old - 1))
        forked[at] = leaf_hash(b"another entry")
        assert not verify_consistency(old, size, naive_root(forked[:old]), roots[1], proof)
        fork_proof = consistency_proof(old, size, nodes(forked))
        assert not verify_consistency(old, size, roots[0], naive_root(forked), fork_proof)
    if proof:
        assert not verify_consistency(old, size, *roots, proof[:-1])
        assert not verify_consistency(old, size, *roots, [bytes(32), *proof[1:]])
