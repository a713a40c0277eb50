"""Layers of weights: Dense, and DropConnect, which drops some of them."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nnfast import _checks, _sparse, init
from nnfast._load import _core
from nnfast._seeds import Rng
from nnfast.dropout import scale_of
from nnfast.nn.layer import Array, Buffer, KernelLayer, Parameter, Probability, Shape

# Elements of a bias that is repeated for several rows, and of a sum for which that does not pay.
_TILE, _SMALL = 16384, 512


class Weighted(KernelLayer):
    """A layer with weights, and a bias or none."""

    weight = Parameter()

    @property
    def bias(self) -> Array | None:
        """The bias, shape (n_out,), or None."""
        return self._own_params.get("bias")

    @bias.setter
    def bias(self, value: ArrayLike | None) -> None:
        if self.bias is not None:
            self._write("bias", value)  # type: ignore[arg-type]
        elif value is not None:
            raise ValueError(f"bias must be None in a layer without one, got {value!r}")


class Dense(Weighted):
    """A matrix product and a bias: ``y = x @ weight + bias``.

    Parameters
    ----------
    n_in, n_out : int
        At least 1.
    bias : bool, default True
        Whether there is a bias, which begins with zeros. Before a BatchNorm none is needed.
    dtype : float32 or float64, optional
        Of the parameters, and of y: that of the network if it is given one, else float32.
    init : str or function, default "he"
        First weights: a name that nnfast.init.by_name knows, or a function ``f(shape, dtype=..., rng=...)``.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        What the weights are drawn from, as nnfast.init says: one Generator serves a whole network.

    Attributes
    ----------
    weight : ndarray, shape (n_in, n_out)
    bias : ndarray, shape (n_out,), or None
        Written in place, ``layer.weight[...] = w`` or ``layer.weight = w``; named so in named_params.

    Raises
    ------
    TypeError
        If n_in or n_out is no int, or dtype another.
    ValueError
        If n_in or n_out is below 1, or init unknown.

    Notes
    -----
    x has shape (N, ..., n_in), or is a sparse table of SciPy's, and stays that; formats other than CSR are converted
    to it. The gradient of the bias is summed in float64.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015, for the first weights.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.Dense(3, 2, rng=0)
    >>> y = layer.forward(np.ones((4, 3)), training=True)
    >>> dx = layer.backward(np.ones((4, 2)))
    >>> y.shape, dx.shape, layer.grads
    ((4, 2), (4, 3), [array([[4., 4.],
           [4., 4.],
           [4., 4.]], dtype=float32), array([4., 4.], dtype=float32)])
    """

    _takes_sparse = True

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
        init: str | init.Initialiser = "he",
        rng: init.Rng = None,
    ) -> None:
        super().__init__(dtype, learns=True)
        self.n_in = _checks.integer_from(n_in, 1, "n_in")
        self.n_out = _checks.integer_from(n_out, 1, "n_out")
        self._add_params(weight=first_weight((self.n_in, self.n_out), self._dtype, init, rng))
        if bias:
            self._add_params(bias=np.zeros(self.n_out, self._dtype))
        self._tile = Buffer()
        self._x: Any = self.weight
        self._used = self.weight

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        if len(input_shape) < 2 or input_shape[-1] != self.n_in:
            raise ValueError(f"x must have shape (N, ..., {self.n_in}), got {input_shape}")
        return (*input_shape[:-1], self.n_out)

    def _train(self, x: Array, overwrite: bool) -> Array:
        z = self._product(x)
        bias = self._own_params.get("bias")
        if bias is not None:
            self._add_bias(self._flat(z), bias)
        return z

    def _infer(self, x: Array, overwrite: bool) -> Array:
        z = self._inferred_product(x)
        bias = self.bias
        return z if bias is None else np.add(z, bias, out=z)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        if "bias" in self._own_params:
            _core.column_sums(dy, self._own_grads["bias"])
        return self._product_backward(dy, need_dx)

    def _add_bias(self, z: Array, bias: Array) -> None:
        """z + bias in place, some rows at a time: NumPy makes a buffer, as large as z, for a bias that is broadcast."""
        if z.size <= _SMALL:
            np.add(z, bias, out=z)
            return
        rows = 1 + _TILE // self.n_out
        tile = self._tile.take((min(len(z), rows), self.n_out), z.dtype)
        tile[...] = bias
        for first in range(0, len(z), rows):
            part = z[first : first + rows]
            np.add(part, tile[: len(part)], out=part)

    # ---- in parts, for those that come between the product and the bias ----

    def _product(self, x: Array) -> Array:
        """x @ weight in training."""
        self._x, self._used = x, self._training_weight()
        if not isinstance(x, np.ndarray):
            out = self._y.take((x.shape[0], self.n_out), x.dtype)
            return _sparse.product(x, self._used, out)
        z = self._y.take((x.size // self.n_in, self.n_out), x.dtype)
        np.matmul(self._flat(x), self._used, out=z)
        return z if x.ndim == 2 else z.reshape(*x.shape[:-1], self.n_out)

    def _inferred_product(self, x: Array) -> Array:
        if not isinstance(x, np.ndarray):
            return _sparse.product(x, self.weight)
        z: Array = self._flat(x) @ self.weight
        return z if x.ndim == 2 else z.reshape(*x.shape[:-1], self.n_out)

    def _product_backward(self, dz: Array, need_dx: bool) -> Array | None:
        """dx, with need_dx, and the gradient of the weights."""
        dz = self._flat(dz)
        self._weight_gradient(self._flat(self._x), dz, self._own_grads["weight"])
        if not need_dx:
            return None
        dx = self._dx.take((len(dz), self.n_in), dz.dtype)
        np.matmul(dz, self._used.T, out=dx)
        return dx if self._x.ndim == 2 else dx.reshape(self._x.shape)

    def _training_weight(self) -> Array:
        return self._own_params["weight"]

    def _weight_gradient(self, x: Array, dz: Array, out: Array) -> None:
        if isinstance(x, np.ndarray):
            np.matmul(x.T, dz, out=out)
        else:
            _sparse.transposed_product(x, dz, out)

    @staticmethod
    def _flat(x: Array) -> Array:
        return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])

    def _settings(self) -> str:
        return f"{self.n_in}, {self.n_out}" + ("" if self.bias is not None else ", bias=False")


class DropConnect(Dense):
    """A dense layer some of whose weights are dropped in each step: ``y = x @ dropout(weight, p) + bias``.

    Parameters
    ----------
    n_in, n_out : int
        At least 1.
    p : float in [0, 1], default 0.5
        Probability of dropping a weight; what is kept is scaled by ``1 / (1 - p)``. One mask serves the batch.
    bias, dtype, init
        As of Dense.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        For the first weights, which are those of a Dense with the same, and for the masks.

    Attributes
    ----------
    weight : ndarray, shape (n_in, n_out)
    bias : ndarray, shape (n_out,), or None
        As of Dense.

    Raises
    ------
    TypeError, ValueError
        As Dense, or if p is out of range.

    References
    ----------
    Wan et al., "Regularization of neural networks using DropConnect", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.DropConnect(4, 3, p=0.5, rng=0)
    >>> x = np.ones((1, 4), np.float32)
    >>> kept = layer.forward(x, training=True)
    >>> bool((kept != layer.forward(x)).any())
    True
    """

    p = Probability()

    def __init__(
        self,
        n_in: int,
        n_out: int,
        p: float = 0.5,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
        init: str | init.Initialiser = "he",
        rng: Rng = None,
    ) -> None:
        self.p = p
        self._draw_from(rng)
        super().__init__(n_in, n_out, bias=bias, dtype=dtype, init=init, rng=rng)
        self._bits, self._dropped = Buffer(), Buffer()
        self._mask, self._scale = np.empty(0, np.uint8), 1.0

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        # In version 0.1 the two were arrays.
        self._bits, self._dropped = Buffer(), Buffer()

    def _training_weight(self) -> Array:
        seed = int(self._rng.bit_generator.random_raw())
        weight = self.weight
        self._mask = self._bits.take(((weight.size + 7) // 8,), np.uint8)
        self._scale = scale_of(self.p, "inverted")  # backward takes the same, whatever becomes of p
        _core.dropout_mask(weight.size, self.p, 1, seed, 0, self._mask)
        out = self._dropped.take(weight.shape, weight.dtype)
        return _core.apply_mask(weight, self._mask, self._scale, out)

    def _weight_gradient(self, x: Array, dz: Array, out: Array) -> None:
        super()._weight_gradient(x, dz, out)
        _core.apply_mask(out, self._mask, self._scale, out)

    def _settings(self) -> str:
        return f"{super()._settings()}, p={self.p:g}"


def first_weight(
    shape: Shape, dtype: np.dtype[Any] | None, how: str | init.Initialiser, rng: init.Rng
) -> Array:
    """First weights by the name of an initialiser, or by a function, whose result is checked."""
    if isinstance(how, str):
        how = init.by_name(_checks.one_of(how, init.NAMES, "init"))
    elif not callable(how):
        raise TypeError(f"init must be a name or a function, got {type(how).__name__}")
    weight = np.array(how(shape, dtype=dtype, rng=rng))  # of the layer alone
    if weight.shape != shape or weight.dtype != dtype:
        raise ValueError(
            f"init must give weights of shape {shape} and dtype {dtype}, "
            f"got {weight.shape} and {weight.dtype}"
        )
    return weight


class _Ones:
    """An attribute of Dense in version 0.1, whose pickles name the class."""
