"""What L-BFGS knows of the curvature: pairs of steps and changes of the gradient, and the direction they suggest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curvature"]

Vector = NDArray[np.float64]  # in blocks: as many rows, with zeros after the last element
# OpenBLAS computes a product of fewer elements with one thread, so that its bits are those of any number of threads.
ONE_THREAD = 8192


class Curvature:
    """The inverse of the Hessian by the last pairs (s, y): steps, and the changes of the gradient that came of them.

    Parameters
    ----------
    size : int
        Of the vectors.
    pairs : int
        How many are kept.

    Notes
    -----
    The compact form of Byrd, Nocedal, Schnabel, "Representations of quasi-Newton matrices and their use in limited
    memory methods", 1994, theorem 2.2: the products of a gradient with all s and y, small matrices, and a linear
    combination of all s and y, two passes over the pairs where the recursion has four. All pairs lie in one array,
    block by block, so that NumPy multiplies each block where it lies in the cache.
    """

    def __init__(self, size: int, pairs: int) -> None:
        self._pairs = pairs
        block = max(1, min(size, ONE_THREAD // (2 * pairs)))
        self._shape = -(-size // block), block
        self._rows = np.empty((self._shape[0], pairs, 2, block))
        # Of the pairs where they lie, in whatever order. The newest pair replaces the oldest one, without which the
        # inverse of a triangle is the inverse of the rest; it is of the matrix of s_i y_j where j is not older than i.
        self._inverse = np.zeros((pairs, pairs))
        self._squares = np.zeros((pairs, pairs))  # y_i y_j
        self._diagonal = np.zeros(pairs)  # s_i y_i
        self._seen = np.zeros((pairs, 2))  # products with the last gradient
        self._count = self._next = 0
        self._along: float | None = None  # s y of a pair that has not met a gradient

    def vector(self) -> Vector:
        """A vector of zeros."""
        return np.zeros(self._shape)

    def forget(self) -> None:
        """Drop all pairs."""
        self._count = self._next = 0
        self._along = None
        self._inverse.fill(0)

    def __len__(self) -> int:
        return self._count

    def add(self, step: Vector, before: Vector, after: Vector, along: float) -> None:
        """Take in a step and the gradients before and after it; along > 0 is the product of it and their difference."""
        self._newest, self._along = self._next, along
        pair = self._rows[:, self._newest]
        pair[:, 0] = step
        np.subtract(after, before, out=pair[:, 1])
        self._count = max(self._count, self._newest + 1)
        self._next = (self._newest + 1) % self._pairs

    def direction(self, gradient: Vector, out: Vector) -> None:
        """Minus the inverse of the Hessian times the gradient of the point where the last pair ends."""
        count = self._count
        if count == 0:
            np.negative(gradient, out=out)
            return
        rows = self._rows[:, :count].reshape(-1, 2 * count, self._shape[1])
        products = np.matmul(rows, gradient[:, :, None]).sum(axis=0).reshape(count, 2)
        if self._along is not None:
            self._take_in(self._along, products)
            self._along = None
        self._seen[:count] = products
        inverse, squares = self._inverse[:count, :count], self._squares[:count, :count]
        diagonal = self._diagonal[:count]
        scale = diagonal[self._newest] / squares[self._newest, self._newest]
        u = np.vecdot(inverse, products[:, 0])
        v = diagonal * u + scale * (np.vecdot(squares, u) - products[:, 1])
        factors = np.empty((count, 2))
        np.negative(np.vecdot(inverse.T, v), out=factors[:, 0])
        np.multiply(u, scale, out=factors[:, 1])
        np.matmul(factors.reshape(1, -1), rows, out=out[:, None])
        out -= scale * gradient

    def _take_in(self, along: float, products: NDArray[np.float64]) -> None:
        """The newest pair's row and column of the small matrices, by how the products with the gradient changed."""
        count, new = len(products), self._newest
        inverse, squares = self._inverse[:count, :count], self._squares[:count, :count]
        changes = products - self._seen[:count]
        inverse[new] = 0
        inverse[:, new] = 0
        inverse[:, new] = np.vecdot(inverse, changes[:, 0]) / -along
        inverse[new, new] = 1 / along
        squares[new] = squares[:, new] = changes[:, 1]
        change = self._rows[:, new, 1]
        squares[new, new] = dot(change, change)
        self._diagonal[new] = along


def dot(x: Vector, y: Vector) -> float:
    """Their product, block by block."""
    return float(np.add.reduce(np.vecdot(x, y)))
