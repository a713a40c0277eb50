"""Sums in the order of a binary tree, which does not depend on who computes which part of it."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from nnfast.normalization import BatchNormStats, merge_stats

T = TypeVar("T")
# Leaves that are merged at once where Dask does it: a merge has the accuracy of one rounding, and a task its price.
_FAN = 32
Place = tuple[int, int]
"""The height of a node above the leaves, and its number from the left."""


def merged(a: Any, b: Any) -> Any:
    """Two neighbours as one: statistics, numbers and arrays, or lists of these."""
    if isinstance(a, BatchNormStats):
        return merge_stats(a, b)
    if isinstance(a, list | tuple):
        return [merged(left, right) for left, right in zip(a, b, strict=True)]
    return np.add(a, b)


def reduced(nodes: dict[Place, T], merge: Callable[[T, T], T] = merged) -> dict[Place, T]:
    """Neighbours merged wherever both are there: of all leaves, a power of two of them, the root is left.

    Parts of the tree may be reduced by themselves and the rest later: the result has the same bits.
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


def root(parts: Iterable[dict[Place, T]], merge: Callable[[T, T], T] = merged) -> T:
    """What all parts of a tree, each reduced by itself, come to together."""
    nodes: dict[Place, T] = {}
    for part in parts:
        nodes |= part
    (value,) = reduced(nodes, merge).values()
    return value


def lazily(leaves: list[Any], merge: Callable[..., Any] = merge_stats) -> Any:
    """Delayed leaves, any number of them, merged many at once in a tree of delayed merges."""
    from dask import delayed

    step = delayed(merge, pure=True)
    while len(leaves) > 1:
        leaves = [step(*leaves[i : i + _FAN]) for i in range(0, len(leaves), _FAN)]
    return leaves[0]
