"""Embedding: a row of weights for each index."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import nnfast
from nnfast import _checks, init
from nnfast.nn.dense import first_weight
from nnfast.nn.layer import Array, KernelLayer, Parameter, Shape, batch_of


class Embedding(KernelLayer):
    """A row of weights for each index: ``y = weight[x]``; the first layer of a network.

    Parameters
    ----------
    n : int
        Rows of the weights; indices are in [0, n).
    dim : int
        Their length.
    padding_idx : int in [0, n), optional
        An index whose row begins with zeros and gets no gradient.
    sparse : bool, default False
        Whether the gradient is nnfast.optim.Rows: the rows that a batch names, at the cost of these. SGD, Adagrad, Adam
        and AdamW take it, and leave the other rows and their state as they are.
    dtype : float32 or float64, optional
        Of the weights, and of y: that of the network if it is given one, else float32.
    init : function or str, default nnfast.init.normal
        First weights, a function ``f(shape, dtype=..., rng=...)`` or a name that nnfast.init.by_name knows. The default
        has standard deviation 1 as PyTorch's; ``partial(nnfast.init.normal, std=0.02)`` is GPT-2's.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        What the weights are drawn from, as nnfast.init says.

    Attributes
    ----------
    weight : ndarray, shape (n, dim)
        Written in place, ``layer.weight[...] = w`` or ``layer.weight = w``.

    Raises
    ------
    TypeError
        If n, dim or padding_idx is no int, or dtype another; from forward, if x is not of integers.
    ValueError
        If n or dim is below 1, padding_idx out of range, or init unknown.
    IndexError
        From forward, if an index is below 0 or from n on.

    Notes
    -----
    x is an array of integers of shape (N, ...), which no network converts; y has one axis more, of length dim. There is
    no gradient with respect to x: backward returns None. That with respect to the weights has their shape, 0 for rows
    that x does not name; optimizers with momentum move these, too, unless it is sparse. Equal indices are summed in an
    order that does not depend on threads. A sparse gradient refers to dy: the optimizer has to have taken it before the
    next backward.

    The fans of "he" and the like count n inputs, though each y takes one row: choose the deviation yourself.

    References
    ----------
    Bengio, Ducharme, Vincent, Jauvin, "A neural probabilistic language model", 2003.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.Embedding(3, 2)
    >>> layer.weight = [[0, 1], [2, 3], [4, 5]]
    >>> layer.forward(np.array([[2, 0, 2]]), training=True)
    array([[[4., 5.],
            [0., 1.],
            [4., 5.]]], dtype=float32)
    >>> layer.backward(np.ones((1, 3, 2)))
    >>> layer.grads
    [array([[1., 1.],
           [0., 0.],
           [2., 2.]], dtype=float32)]
    """

    _takes_indices = True
    sparse = False  # of pickles of earlier versions
    _x: Array

    weight = Parameter()

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        padding_idx: int | None = None,
        sparse: bool = False,
        dtype: DTypeLike | None = None,
        init: str | init.Initialiser = init.normal,
        rng: init.Rng = None,
    ) -> None:
        super().__init__(dtype, learns=True)
        self.n = _checks.integer_from(n, 1, "n")
        self.dim = _checks.integer_from(dim, 1, "dim")
        if padding_idx is not None:
            padding_idx = _checks.integer(padding_idx, "padding_idx")
            if not 0 <= padding_idx < self.n:
                raise ValueError(f"padding_idx must be in [0, {self.n}), got {padding_idx}")
        self.padding_idx = padding_idx
        weight = first_weight((self.n, self.dim), self._dtype, init, rng)
        if padding_idx is not None:
            weight[padding_idx] = 0
        self.sparse = bool(sparse)
        if self.sparse:
            none: Any = nnfast.optim.Rows(np.zeros(0, np.int64), weight[:0].copy())
            self._own_params["weight"], self._own_grads["weight"] = weight, none
        else:
            self._add_params(weight=weight)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        batch_of(input_shape, 1, "(N, ...)")
        return (*input_shape, self.dim)

    def _train(self, x: Array, overwrite: bool) -> Array:
        out = self._y.take((*x.shape, self.dim), self.weight.dtype)
        y: Array = nnfast.embedding(x, self.weight, out=out)
        self._x = x
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        grad: Any = self._own_grads["weight"]
        if self.sparse:
            x = self._x
            if self.padding_idx is not None:
                named = x != self.padding_idx
                x, dy = x[named], dy[named]
            grad._take(x, dy)
            return None
        nnfast.embedding_backward(dy, self._x, self.n, out=grad)
        if self.padding_idx is not None:
            grad[self.padding_idx] = 0
        return None

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = nnfast.embedding(x, self.weight)
        return y

    def _settings(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.n}, {self.dim}{padding}{sparse}"
