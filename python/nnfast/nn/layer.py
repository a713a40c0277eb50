"""The base of all layers: their methods, their arrays, and memory that is reused in every step."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnfast import _arrays, _checks, _seeds, _sparse
from nnfast._seeds import Rng
from nnfast._whole import Whole

Array = NDArray[Any]
Shape = tuple[int, ...]

# Of layers and networks in pickles of version 0.1.
_STATISTICS_0_1 = {
    "running_mean": "_mean",
    "running_var": "_var",
    "num_batches_tracked": "_batches",
}
_NETWORK_0_1 = (
    "_all_params",
    "_all_grads",
    "_training_steps",
    "_inference_steps",
    "_backward_steps",
)
# Shapes whose check is remembered. Only a network that sees more than this checks again.
_MOST_SHAPES = 64


class Layer(Whole):
    """The base of all layers, and of yours.

    A layer of your own overrides forward and backward, output_shape if it changes shapes, and, if it learns something,
    named_params and named_grads, under the same names: the same arrays at every call. So backward writes the gradients
    in place, ``self.dw[...] = x.T @ dy``; a network refuses to train a layer that assigns new arrays. If it draws
    random numbers of its own, named_generators has them saved.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> class Double(nf.nn.Layer):
    ...     def forward(self, x, training=False):
    ...         return 2 * x
    ...     def backward(self, dy):
    ...         return 2 * dy
    >>> nf.nn.Sequential(Double(), nf.nn.ReLU()).forward(np.array([-1.0, 3.0]))
    array([0., 6.])
    """

    _takes_indices = False
    """Whether x holds indices, which a network must not convert to its dtype."""
    _takes_sparse = False
    """Whether x may be a sparse table."""

    def forward(self, x: ArrayLike, training: bool = False) -> Array:
        """Compute y from x; with training=True, also save what backward needs.

        Parameters
        ----------
        x : array_like
            The input, a row a sample.
        training : bool, default False
            Whether backward follows.

        Returns
        -------
        y : ndarray
            The output.
        """
        raise NotImplementedError(f"{type(self).__name__} must have forward")

    def __call__(self, x: ArrayLike, training: bool = False) -> Array:
        """The same as forward: ``net(x)`` is ``net.forward(x)``."""
        return self.forward(x, training=True) if training else self.forward(x)

    def backward(self, dy: ArrayLike) -> Array | None:
        """The gradient with respect to x for the gradient with respect to y, of the last forward with training=True.

        Parameters
        ----------
        dy : array_like, shape of y
            Gradient of the loss with respect to y.

        Returns
        -------
        dx : ndarray of x's shape, or None
            None where x has no gradient, such as indices.
        """
        raise NotImplementedError(f"{type(self).__name__} must have backward")

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        """The shape of y for an x of that shape; a ValueError if the layer does not take such an x.

        Parameters
        ----------
        input_shape : tuple of ints
            That of x.
        training : bool, default False
            Whether it is for training, which may ask for more.

        Returns
        -------
        shape : tuple of ints
            That of y.
        """
        return input_shape

    def named_params(self) -> dict[str, Array]:
        """The parameters by name."""
        return {}

    def named_grads(self) -> dict[str, Array]:
        """The gradients of named_params, written by backward."""
        return {}

    def named_statistics(self) -> dict[str, Array]:
        """Arrays besides the parameters that a saved network needs, such as running statistics."""
        return {}

    def named_generators(self) -> dict[str, np.random.Generator]:
        """The random generators of this layer alone, whose states a saved network needs too."""
        return {}

    @property
    def params(self) -> list[Array]:
        """The parameters, for an optimizer."""
        return list(self.named_params().values())

    @property
    def grads(self) -> list[Array]:
        """Their gradients, in the same order."""
        return grads_like(self.named_params(), self.named_grads())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings()})"

    def _settings(self) -> str:
        """The text between the brackets of repr."""
        return ""

    def _rows(self, place: str, shape: Shape) -> Iterator[tuple[str, str, Shape, int]]:
        """The lines of the layer in a summary for an x of that shape: place, repr, shape of y, number of parameters."""
        count = sum(param.size for param in self.params)
        yield place, repr(self), self.output_shape(shape), count

    def _children(self) -> tuple[Layer, ...]:
        """The layers within this one."""
        return ()

    def _input_gradient(self, dy: Array) -> Array | None:
        """backward as a network calls it for a user-defined layer."""
        return self.backward(dy)


class Buffer:
    """Memory that is reused: that of the largest array so far, viewed in the shape that is asked for."""

    __slots__ = ("_memory", "_view")

    def __init__(self) -> None:
        self._memory: Array = np.empty(0, np.uint8)
        self._view: Array = self._memory

    def take(self, shape: Shape, dtype: DTypeLike) -> Array:
        """An array that stays valid until the next call; the same object if nothing has changed."""
        view = self._view
        if view.shape != shape or view.dtype != dtype:
            view = self._view = self._cut(shape, np.dtype(dtype))
        return view

    def _cut(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        size = prod(shape)
        if self._memory.size < size or self._memory.dtype != dtype:
            self._memory = np.empty(size, dtype)
        return self._memory[:size].reshape(shape)

    def __reduce__(self) -> tuple[type[Buffer], tuple[()]]:
        # A copy of a network, or a pickled one, begins with no memory.
        return Buffer, ()


class Probability:
    """The attribute p of a layer: a float in [0, 1]."""

    def __get__(self, layer: Any, owner: type) -> float:
        try:
            found: float = layer.__dict__["p"]
        except (AttributeError, KeyError):  # asked of the class, or not set yet
            raise AttributeError(f"{owner.__name__} has no p") from None
        return found

    def __set__(self, layer: Any, value: float) -> None:
        vars(layer)["p"] = _checks.real_in(value, 0, 1, "p")


class Parameter:
    """An attribute of a layer that is a parameter: read as it is, and set in place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: KernelLayer, owner: type) -> Array: ...
    def __get__(self, layer: KernelLayer | None, owner: type) -> Self | Array:
        return self if layer is None else layer._own_params[self._name]

    def __set__(self, layer: KernelLayer, value: ArrayLike) -> None:
        layer._write(self._name, value)


class Statistic:
    """An attribute of a layer that is one of its statistics, or None: read as it is, and set in place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: KernelLayer, owner: type) -> Array | None: ...
    def __get__(self, layer: KernelLayer | None, owner: type) -> Self | Array | None:
        return self if layer is None else layer._own_statistics.get(self._name)

    def __set__(self, layer: KernelLayer, value: ArrayLike | None) -> None:
        if self._name in layer._own_statistics:
            layer._write(self._name, value)  # type: ignore[arg-type]
        elif value is not None:
            raise ValueError(f"{self._name} must be None, as the layer keeps none, got {value!r}")


class KernelLayer(Layer):
    """A layer over nnfast's kernels.

    It answers forward and backward by three methods that check nothing, which a network calls by itself:

    _train(x, overwrite)               y, in a buffer of the layer or, with `overwrite`, in x's memory
    _backward(dy, overwrite, need_dx)  dx, in a buffer or, with `overwrite`, in dy's memory; not read without `need_dx`
    _infer(x, overwrite)               y in new memory, or in x's with `overwrite`; nothing is kept

    A network sets `overwrite` by what the class says of itself:
    """

    _keeps_output = False
    """Whether backward reads y."""
    _in_place = False
    """Whether y may take x's memory, as backward does not read x."""
    _is_view = False
    """Whether y is x's memory in any case, and dx that of dy."""

    _OF_THE_BATCH = frozenset({"_expected", "_largest", "_mask", "_saved", "_used", "_which", "_x"})
    """Attributes that copies and pickles leave out: they belong to the last batch, and may be large."""
    _LEFT_OUT = frozenset(
        {
            "_weight",
            "_bias",
            "_gamma",
            "_beta",
            "_mean",
            "_var",
            "_batches",
            "_alpha",
            *_NETWORK_0_1,
        }
    )
    """Attributes in pickles of version 0.1 that are dropped: second references to arrays."""

    _dtype: np.dtype[Any] | None
    _dtype_is_open = False
    """Whether the layer was made without a dtype, so that a network may give it one."""
    _expected: tuple[Shape, np.dtype[Any]] | None = None
    """Shape and dtype of y, once backward may follow."""
    _rng: np.random.Generator
    _rng_is_own = False
    """Whether _rng belongs to the layer; a generator that was given is the caller's."""

    def __init__(self, dtype: DTypeLike | None = None, *, learns: bool = False) -> None:
        self._dtype_is_open = learns and dtype is None
        if self._dtype_is_open:
            dtype = np.float32
        self._dtype = None if dtype is None else float_dtype(dtype)
        self._own_params: dict[str, Array] = {}
        self._own_grads: dict[str, Array] = {}
        self._own_statistics: dict[str, Array] = {}
        self._y, self._dx = Buffer(), Buffer()
        self._known: set[tuple[Shape, bool]] = set()
        self._expected = None

    def forward(self, x: ArrayLike, training: bool = False) -> Array:
        """y for x.

        Parameters
        ----------
        x : array_like of real numbers
            Converted to the dtype of the layer's parameters if that is another; without parameters, float16, float32
            and float64 stay what they are. Dense, and a network that begins with one, take sparse tables of SciPy's.
        training : bool, default False
            Whether backward follows, which then needs x: it is not copied.

        Returns
        -------
        y : ndarray
            In training it lies in memory that the next call in training overwrites; otherwise it is a new array.

        Raises
        ------
        TypeError
            If x is not of real numbers.
        ValueError
            If the layer does not take an x of this shape. Nothing is changed then.
        """
        x = self._as_input(x, "x")
        self._check(x.shape, bool(training))
        if not training:
            y = self._infer(x, False)
            return y.copy() if self._is_view else y
        self._expected = None  # a pass that is interrupted is none
        y = self._train(x, False)
        self._expected = y.shape, y.dtype
        return y

    def backward(self, dy: ArrayLike) -> Array | None:
        """The gradient with respect to x of the last forward with training=True; those of the parameters go to grads.

        Parameters
        ----------
        dy : array_like, shape of y
            Gradient of the loss with respect to y. It is not changed.

        Returns
        -------
        dx : ndarray of x's shape
            In memory that the next call overwrites.

        Raises
        ------
        RuntimeError
            If there was no forward with training=True.
        TypeError
            If dy is not of real numbers.
        ValueError
            If dy has not the shape of y. Nothing is changed then.
        """
        return self._backward(self._gradient(dy), False, True)

    def named_params(self) -> dict[str, Array]:
        return dict(self._own_params)

    def named_grads(self) -> dict[str, Array]:
        return dict(self._own_grads)

    def named_statistics(self) -> dict[str, Array]:
        return dict(self._own_statistics)

    def named_generators(self) -> dict[str, np.random.Generator]:
        return {"rng": self._rng} if self._rng_is_own else {}

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        kept = {
            # Copies have buffers of their own, also where they share the arrays of the layer.
            name: Buffer() if isinstance(value, Buffer) else value
            for name, value in attributes.items()
            if name not in self._OF_THE_BATCH
        }
        return kept if slots is None else (kept, slots)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        attributes = vars(self)
        if "_own_statistics" not in attributes:  # of version 0.1
            self._own_statistics = {
                name: attributes[before]
                for name, before in _STATISTICS_0_1.items()
                if attributes.get(before) is not None
            }
        for name in self._LEFT_OUT & attributes.keys():
            del attributes[name]

    def _draw_from(self, rng: Rng) -> None:
        """Set the generator: the given one, or a new one with the given seed, so that steps differ."""
        self._rng_is_own = not isinstance(rng, np.random.Generator)
        self._rng = _seeds.generator_of(rng) if self._rng_is_own else rng  # type: ignore[assignment]

    def _train(self, x: Array, overwrite: bool) -> Array:
        raise NotImplementedError

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        raise NotImplementedError

    def _infer(self, x: Array, overwrite: bool) -> Array:
        raise NotImplementedError

    def _add_params(self, **params: Array) -> None:
        """Add parameters, and arrays for their gradients."""
        self._own_params |= params
        self._own_grads |= {name: np.zeros_like(value) for name, value in params.items()}

    def _take_dtype(self, dtype: np.dtype[Any]) -> None:
        """Convert what the layer has to the dtype that its network is given."""
        if self._dtype is None:
            return  # without parameters: it computes in the dtype of x
        self._dtype, self._dtype_is_open, self._expected = dtype, False, None
        self._own_params = _converted(self._own_params, dtype)
        self._own_grads = _converted(self._own_grads, dtype)
        self._own_statistics = _converted(self._own_statistics, dtype)

    def _write(self, name: str, value: ArrayLike) -> None:
        """Set a parameter or statistic, in place.

        Raises
        ------
        TypeError
            If value is not of real numbers, or of integers where the array is.
        ValueError
            If its shape differs, a count is negative, or the array is read-only. Nothing is changed then.
        """
        array = self._own_params[name] if name in self._own_params else self._own_statistics[name]
        if value is array:  # as after layer.weight -= 0.1
            return
        try:
            given = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must have shape {array.shape}: {error}") from None
        kinds = "biu" if array.dtype.kind == "i" else "biuf"
        if given.dtype.kind not in kinds:
            numbers = "integers" if array.dtype.kind == "i" else "real numbers"
            raise TypeError(f"{name} must be an array of {numbers}, got dtype {given.dtype}")
        if given.shape != array.shape:
            raise ValueError(f"{name} must have shape {array.shape}, got {given.shape}")
        if array.dtype.kind == "i" and (given < 0).any():
            raise ValueError(f"{name} must not be negative, got {given}")
        _arrays.check_writeable(array, name)
        array[...] = given

    def _as_input(self, value: ArrayLike, name: str) -> Array:
        """The value as an array of the dtype that the layer computes in, or of integers if it takes indices."""
        if self._takes_indices:
            return _indices(value, name)
        if self._dtype is None:
            return _arrays.floating(_dense(value, name), name, float16=True)
        if type(value) is np.ndarray and value.dtype == self._dtype:
            return value
        if self._takes_sparse and _sparse.is_sparse(value):
            table: Array = _sparse.csr_of(value, self._dtype, name)
            return table
        value = _dense(value, name)
        return _arrays.floating(value, name).astype(self._dtype, copy=False)

    def _check(self, shape: Shape, training: bool) -> None:
        key = shape, training
        if key in self._known:
            return
        self.output_shape(shape, training)
        if len(self._known) == _MOST_SHAPES:
            self._known.clear()
        self._known.add(key)

    def _gradient(self, dy: ArrayLike) -> Array:
        """dy, checked."""
        if self._expected is None:
            raise RuntimeError("backward must follow forward(x, training=True)")
        shape, dtype = self._expected
        if type(dy) is not np.ndarray or dy.dtype != dtype:
            dy = _arrays.floating(dy, "dy", float16=True).astype(dtype, copy=False)
        if dy.shape != shape:
            raise ValueError(f"dy must have the shape of y, {shape}, got {dy.shape}")
        return dy


class Part(NamedTuple):
    """The place of a shard in its batch, so that its random numbers are those that it has in the whole batch."""

    seed: int
    rows_before: int


class RandomLayer(KernelLayer):
    """A layer that draws a random number for every element in training: all of a step from one seed."""

    _part: Part | None = None

    def _draw(self) -> int:
        """The next seed."""
        return int(self._rng.bit_generator.random_raw())

    def _place(self, x: Array) -> tuple[int, int]:
        """The seed, and the position of x's first element in the batch."""
        if self._part is None:
            return self._draw(), 0
        return self._part.seed, self._part.rows_before * (x.size // len(x))


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64; a TypeError for others."""
    made = np.dtype(dtype)
    if made not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {made}")
    return made


def _converted(arrays: dict[str, Array], dtype: np.dtype[Any]) -> dict[str, Array]:
    """The arrays with those of floats, not counts, in another dtype."""
    return {
        name: array.astype(dtype, copy=False) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def _dense(value: ArrayLike, name: str) -> ArrayLike:
    """The value, which must not be sparse."""
    if type(value) is not np.ndarray and _sparse.is_sparse(value):
        raise TypeError(
            f"{name} must be dense, as only Dense and networks that begin with one multiply sparse tables, "
            f"got {type(value).__name__}"
        )
    return value


def _indices(value: ArrayLike, name: str) -> Array:
    array = _arrays.plain(value, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of integers, got dtype {array.dtype}")
    return array


def grads_like(params: dict[str, Array], grads: dict[str, Array]) -> list[Array]:
    """The gradients in the order of the parameters if the names agree, else in their own order."""
    if params.keys() == grads.keys():
        return [grads[name] for name in params]
    return list(grads.values())


def batch_of(shape: Shape, axes: int, form: str) -> None:
    """A ValueError if x has too few axes."""
    if len(shape) < axes:
        raise ValueError(f"x must have shape {form}, got {shape}")
