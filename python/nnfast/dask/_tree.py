"""Reductions in the order of a binary tree, which is the same whichever worker computes which part of it."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from nnfast.normalization import BatchNormStats, merge_stats

T = TypeVar("T")
# Leaves that one task of Dask's merges: a merge of many rounds as little as one of two, and each task has its price.
_FAN = 32
Place = tuple[int, int]
"""The height of a node above the leaves, and its number from the left."""


def merged(a: Any, b: Any) -> Any:
    """The sum of two neighbours: of statistics, numbers and arrays, or lists of these; None is added to nothing."""
    if a is None or b is None:
        return a if b is None else b
    if isinstance(a, BatchNormStats):
        return merge_stats(a, b)
    if isinstance(a, list | tuple):
        return [merged(left, right) for left, right in zip(a, b, strict=True)]
    return np.add(a, b)


def reduced(nodes: dict[Place, T], merge: Callable[[T, T], T] = merged) -> dict[Place, T]:
    """Merge neighbours wherever both are there. All leaves, a power of two of them, reduce to the root.

    Parts of the tree may be reduced separately, and the rest later: the result has the same bits.
    """
    nodes = dict(nodes)
    todo = sorted(nodes)
    while todo:
        height, number = todo.pop(0)
        left, right = (height, number & ~1), (height, number | 1)
        if left in nodes and right in nodes:
            up = height + 1, number >> 1
            nodes[up] = merge(nodes.pop(left), nodes.pop(right))
            todo.append(up)
    return nodes


def padding(count: int) -> dict[Place, None]:
    """The leaves that so many lack of a power of two."""
    return {(0, i): None for i in range(count, 1 << (count - 1).bit_length())}


def root(parts: Iterable[dict[Place, T]], merge: Callable[[T, T], T] = merged) -> T:
    """The root of a tree whose parts were reduced separately."""
    nodes: dict[Place, T] = {}
    for part in parts:
        nodes |= part
    (value,) = reduced(nodes, merge).values()
    return value


def lazily(leaves: list[Any], merge: Callable[..., Any] = merge_stats) -> Any:
    """Any number of delayed leaves, merged by a tree of delayed merges."""
    from dask import delayed

    step = delayed(merge, pure=True)
    while len(leaves) > 1:
        leaves = [step(*leaves[i : i + _FAN]) for i in range(0, len(leaves), _FAN)]
    return leaves[0]
