"""Every activation of nnfast as a layer, named as in PyTorch; docstrings come from nnfast.activations.TABLE."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import math
from collections.abc import Callable
from inspect import Signature
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import nnfast
from nnfast import _arrays, _checks, _docs
from nnfast._load import _core
from nnfast._seeds import Rng
from nnfast._table import GATES, TABLE
from nnfast.activations import (
    maxout_backward,
    prelu_weight_backward,
    rrelu,
    rrelu_backward,
)
from nnfast.nn.layer import Array, Buffer, KernelLayer, RandomLayer, Shape
from nnfast.random import Philox

__all__ = [
    "CELU",
    "ELU",
    "GEGLU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Maxout",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReLUSquared",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Sparsemax",
    "Squareplus",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class Activation(KernelLayer):
    """The base of the elementwise activations."""

    _name: ClassVar[str]
    _function: ClassVar[Callable[..., Any]]
    _derivative: ClassVar[Callable[..., Any]]
    __signature__: ClassVar[Signature]

    def __init_subclass__(cls) -> None:
        """Set the functions, and the docstring, from the row of the table."""
        row = TABLE[cls._name]
        cls._keeps_output = cls._in_place = row.saves == "y"
        cls._function = staticmethod(getattr(nnfast, row.name))
        derivative = getattr(nnfast, f"{row.name}_backward")
        own = row.ufunc == row.name  # without parameters to check
        cls._derivative = staticmethod(derivative.ufunc if own else derivative)
        cls.__doc__ = cls.__doc__ or _docs.activation_layer(row.name, cls.__name__)
        if "__init__" not in vars(cls):
            cls.__signature__ = Signature()  # what the base takes is not for its users

    def __init__(
        self, dtype: DTypeLike | None = None, *, learns: bool = False, **params: Any
    ) -> None:
        super().__init__(dtype, learns=learns)
        self._params = params
        self._args: tuple[Any, ...] = tuple(params.values())
        self._saved: Array = np.empty(0, np.float32)
        # Parameters out of range are an error here, those that only the gradient refuses included.
        self._function(self._saved, *self._args)
        self._derivative(self._saved, self._saved, *self._args)

    def _train(self, x: Array, overwrite: bool) -> Array:
        out = x if overwrite else self._y.take(x.shape, x.dtype)
        y: Array = self._function(x, *self._args, out=out)
        self._saved = y if self._keeps_output else x
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        out = dy if overwrite else self._dx.take(dy.shape, dy.dtype)
        dx: Array = self._derivative(dy, self._saved, *self._args, out=out)
        return dx

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = self._function(x, *self._args, out=x if overwrite else np.empty_like(x))
        return y

    def _settings(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._params.items())


class ReLU(Activation):
    _name = "relu"


class ReLU6(Activation):
    _name = "relu6"


class Hardtanh(Activation):
    _name = "hardtanh"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__(min_val=min_val, max_val=max_val)


class LeakyReLU(Activation):
    _name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope=negative_slope)


class Threshold(Activation):
    _name = "threshold"

    def __init__(self, threshold: float = 0.0, value: float = 0.0) -> None:
        super().__init__(threshold=threshold, value=value)


class Hardshrink(Activation):
    _name = "hardshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Softshrink(Activation):
    _name = "softshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class ReLUSquared(Activation):
    _name = "relu_squared"


class Hardsigmoid(Activation):
    _name = "hardsigmoid"


class Hardswish(Activation):
    _name = "hardswish"


class CELU(Activation):
    _name = "celu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)


class SELU(Activation):
    _name = "selu"


class Sigmoid(Activation):
    _name = "sigmoid"


class LogSigmoid(Activation):
    _name = "logsigmoid"


class Softplus(Activation):
    _name = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = math.inf) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Squareplus(Activation):
    _name = "squareplus"

    def __init__(self, b: float = 4.0) -> None:
        super().__init__(b=b)


class Tanh(Activation):
    _name = "tanh"


class Tanhshrink(Activation):
    _name = "tanhshrink"


class SiLU(Activation):
    _name = "silu"


class Mish(Activation):
    _name = "mish"


class Softsign(Activation):
    _name = "softsign"


class GELU(Activation):
    _name = "gelu"

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__(approximate=approximate)


class ELU(Activation):
    """Exponential linear unit: ``x where x > 0, else alpha * expm1(x)``, whose alpha may be learned.

    Parameters
    ----------
    alpha : float, default 1
        Minus the limit at -inf; positive.
    learn_alpha : bool, default False
        Whether alpha is a parameter.
    dtype : float32 or float64, optional
        Of a learned alpha: that of the network if it is given one, else float32.

    Attributes
    ----------
    alpha : ndarray, shape (1,), or float
        The array if it is learned.

    Raises
    ------
    TypeError
        If alpha is not a real number, or dtype another.
    ValueError
        If alpha is not positive, here or where learning has made it so: from forward, then.

    Notes
    -----
    Keeps y for the backward pass. By alpha the gradient is ``expm1(x) = y / alpha`` where x ≤ 0, and 0 elsewhere: with
    a learned alpha the sum of ``dy * min(y, 0)`` over all elements, divided by alpha, summed in float64.

    References
    ----------
    Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units", 2015;
    Trottier, Giguère, Chaib-draa, "Parametric exponential linear unit for deep convolutional neural networks", 2017,
    for learning it.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.ELU(alpha=0.5, learn_alpha=True)
    >>> y = layer.forward(np.array([[-np.inf, 2.0]]), training=True)
    >>> dx = layer.backward(np.ones((1, 2)))
    >>> y, layer.grads
    (array([[-0.5,  2. ]], dtype=float32), [array([-1.], dtype=float32)])
    """

    _name = "elu"

    def __init__(
        self, alpha: float = 1.0, *, learn_alpha: bool = False, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(dtype if learn_alpha else None, learns=learn_alpha, alpha=alpha)
        if learn_alpha:
            self._add_params(alpha=np.full(1, alpha, self._dtype))

    @property
    def alpha(self) -> Array | float:
        """The parameter, or the number."""
        learned = self._learned
        return self._args[0] if learned is None else learned

    @alpha.setter
    def alpha(self, value: ArrayLike) -> None:
        if self._learned is None:
            raise AttributeError("alpha must be learned to be set: make another ELU")
        self._write("alpha", value)

    @property
    def _learned(self) -> Array | None:
        return self._own_params.get("alpha")

    def _train(self, x: Array, overwrite: bool) -> Array:
        self._read_alpha()
        return super()._train(x, overwrite)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        before = self._args  # backward may still need what training had
        self._read_alpha()
        try:
            return super()._infer(x, overwrite)
        finally:
            self._args = before

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        learned = self._learned
        if learned is not None:
            # Where PReLU's input is y, its slope's gradient is the sum of dy min(y, 0).
            sums = prelu_weight_backward(dy, self._saved, learned)
            np.divide(sums, self._args[0], out=self._own_grads["alpha"])
        return super()._backward(dy, overwrite, need_dx)

    def _read_alpha(self) -> None:
        learned = self._learned
        if learned is not None:
            self._args = (_checks.positive(learned[0], "alpha"),)

    def _settings(self) -> str:
        learned = self._learned
        if learned is None:
            return super()._settings()
        return f"alpha={learned[0]:g}, learn_alpha=True"


class PReLU(Activation):
    """Rectified linear unit with a learned slope below 0: ``x where x > 0, else weight * x``.

    Parameters
    ----------
    n : int, default 1
        Slopes: one for all, or one a channel.
    init : float, default 0.25
        What they begin with.
    axis : int, default 1
        The axis of the channels, if there are more slopes than one.
    dtype : float32 or float64, optional
        That of the network if it is given one, else float32.

    Attributes
    ----------
    weight : ndarray, shape (n,)

    Raises
    ------
    TypeError
        If n or axis is no int, init not a real number, or dtype another.
    ValueError
        If n is below 1; from forward, if x has not n channels.

    Notes
    -----
    Keeps x for the backward pass. The gradient of the slope is summed in float64. Weight decay on it would pull the
    slopes towards ReLU's: leave it out.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.PReLU(2)
    >>> y = layer.forward(np.array([[-4.0, 2.0], [-2.0, -8.0]]), training=True)
    >>> dx = layer.backward(np.ones((2, 2)))
    >>> y, layer.grads
    (array([[-1. ,  2. ],
           [-0.5, -2. ]], dtype=float32), [array([-6., -8.], dtype=float32)])
    """

    _name = "prelu"

    def __init__(
        self, n: int = 1, init: float = 0.25, *, axis: int = 1, dtype: DTypeLike | None = None
    ) -> None:
        self.n, self.axis = _checks.integer_from(n, 1, "n"), _checks.integer(axis, "axis")
        slopes = np.full(self.n, _checks.real(init, "init"))
        super().__init__(dtype, learns=True, weight=slopes[:1])
        self._add_params(weight=slopes.astype(self._dtype))

    @property
    def weight(self) -> Array:
        """The slopes, shape (n,)."""
        return self._own_params["weight"]

    @weight.setter
    def weight(self, value: ArrayLike) -> None:
        self._write("weight", value)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axes = len(input_shape)
        if self.n > 1 and (not -axes <= self.axis < axes or input_shape[self.axis] != self.n):
            raise ValueError(
                f"x must have {self.n} channels along axis {self.axis}, got {input_shape}"
            )
        return input_shape

    def _train(self, x: Array, overwrite: bool) -> Array:
        self._args = (self._slopes(x.ndim),)
        return super()._train(x, overwrite)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = self._function(x, self._slopes(x.ndim), out=x if overwrite else np.empty_like(x))
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        sums = prelu_weight_backward(dy, self._saved, self._args[0])
        self._own_grads["weight"][...] = sums.reshape(self.n)
        return super()._backward(dy, overwrite, need_dx)

    def _slopes(self, axes: int) -> Array:
        """The slopes, reshaped to broadcast to x."""
        if self.n == 1:
            return self.weight.reshape((1,) * min(axes, 1))
        return self.weight.reshape(-1, *(1,) * (axes - 1 - self.axis % axes))

    def _settings(self) -> str:
        return f"{self.n}"


class RReLU(RandomLayer):
    """Leaky rectified linear unit whose slopes are random in training: ``x where x > 0, else slope * x``.

    Parameters
    ----------
    lower, upper : float, default 1/8 and 1/3
        In training each element has a slope uniform in [lower, upper), in inference ``(lower + upper) / 2``.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        As of Dropout.

    Raises
    ------
    TypeError
        If lower or upper is not a real number, or rng of another type.
    ValueError
        If lower is above upper, or one of them not finite.

    Notes
    -----
    Keeps x, which must not change until then, and the slopes for the backward pass.

    References
    ----------
    Xu, Wang, Chen, Li, "Empirical evaluation of rectified activations in convolutional network", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.RReLU(rng=0)
    >>> y = layer.forward(np.array([[-24.0, 2.0]]), training=True)
    >>> bool(-8 <= y[0, 0] <= -3), layer.forward(np.array([[-24.0, 2.0]]))
    (True, array([[-5.5,  2. ]]))
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, *, rng: Rng = None) -> None:
        super().__init__()
        self.lower, self.upper = _checks.finite(lower, "lower"), _checks.finite(upper, "upper")
        rrelu(np.empty(0), lower, upper)  # checks their order
        self._draw_from(rng)
        self._memory = Buffer()
        self._x = self._saved = np.empty(0, np.float32)

    def _train(self, x: Array, overwrite: bool) -> Array:
        slopes = self._memory.take(x.shape, x.dtype)
        seed, position = self._place(x)
        stream = Philox(seed, position * (slopes.itemsize // 4))
        stream.uniform(low=self.lower, high=self.upper, out=slopes)
        self._x, self._saved = x, slopes
        out = self._y.take(x.shape, x.dtype)
        return rrelu(x, training=True, slopes=slopes, out=out)[0]

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        out = dy if overwrite else self._dx.take(dy.shape, dy.dtype)
        return rrelu_backward(dy, self._x, self._saved, out=out)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return rrelu(x, self.lower, self.upper, out=x if overwrite else None)[0]

    def _settings(self) -> str:
        return f"{self.lower:g}, {self.upper:g}"


# ---- along an axis ----


class AlongAxis(KernelLayer):
    """The base of the activations that look along an axis."""

    _name: ClassVar[str]
    _title: ClassVar[str] = ""
    _halves: ClassVar[bool]
    _function: ClassVar[Callable[..., Any]]
    _derivative: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        """Set the functions and the docstring; gates, whose output is half as long, keep their input."""
        cls._halves = cls._name in GATES
        cls._keeps_output = not cls._halves
        cls._function = staticmethod(getattr(nnfast, cls._name))
        cls._derivative = staticmethod(getattr(nnfast, f"{cls._name}_backward"))
        cls.__doc__ = _docs.axis_layer(cls._name, cls.__name__, cls._title)

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = _checks.integer(axis, "axis")
        self._saved: Array = np.empty(0, np.float32)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axis = axis_within(self.axis, input_shape)
        if not self._halves:
            return input_shape
        if input_shape[axis] % 2:
            raise ValueError(
                f"x must have an even length along axis {self.axis}, got shape {input_shape}"
            )
        return (*input_shape[:axis], input_shape[axis] // 2, *input_shape[axis + 1 :])

    def _train(self, x: Array, overwrite: bool) -> Array:
        out = self._y.take(self.output_shape(x.shape), x.dtype)
        y: Array = self._function(x, axis=self.axis, out=out)
        self._saved = x if self._halves else y
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        out = self._dx.take(self._saved.shape, dy.dtype)
        dx: Array = self._derivative(dy, self._saved, axis=self.axis, out=out)
        return dx

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = self._function(x, axis=self.axis)
        return y

    def _settings(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"


class Softmax(AlongAxis):
    _name, _title = "softmax", "Softmax: probabilities out of logits, ``exp(x) / sum(exp(x))``"


class LogSoftmax(AlongAxis):
    _name, _title = "log_softmax", "Logarithm of softmax: ``x - log(sum(exp(x)))``"


class Sparsemax(AlongAxis):
    _name, _title = "sparsemax", "Sparsemax: probabilities of which many are 0, ``max(x - t, 0)``"


class GLU(AlongAxis):
    _name = "glu"


class GEGLU(AlongAxis):
    _name = "geglu"


class SwiGLU(AlongAxis):
    _name = "swiglu"


class Maxout(KernelLayer):
    """The largest of every ``pieces`` neighbours along an axis, which gets shorter by that factor.

    Parameters
    ----------
    pieces : int in [1, 256]
        How many neighbours there are for each y.
    axis : int, default -1
        The axis of the neighbours.

    Raises
    ------
    TypeError
        If pieces or axis is no int.
    ValueError
        If pieces is out of range; from forward, if it does not divide the axis.

    Notes
    -----
    Keeps one byte for each element of y. float16 is computed in float32.

    References
    ----------
    Goodfellow et al., "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.Maxout(2).forward(np.array([[1.0, 3.0, -2.0, -5.0]]))
    array([[ 3., -2.]])
    """

    def __init__(self, pieces: int, axis: int = -1) -> None:
        super().__init__()
        self.pieces = _checks.integer_from(pieces, 1, "pieces")
        if self.pieces > 256:
            raise ValueError(f"pieces must be in [1, 256], got {pieces}")
        self.axis = _checks.integer(axis, "axis")
        self._numbers = Buffer()
        self._which: NDArray[np.uint8] = np.empty(0, np.uint8)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axis = axis_within(self.axis, input_shape)
        if input_shape[axis] % self.pieces:
            raise ValueError(
                f"x must have a length along axis {self.axis} that {self.pieces} pieces divide, "
                f"got shape {input_shape}"
            )
        return (*input_shape[:axis], input_shape[axis] // self.pieces, *input_shape[axis + 1 :])

    def _as_input(self, value: Any, name: str) -> Array:
        return _arrays.floating(value, name)

    def _train(self, x: Array, overwrite: bool) -> Array:
        shape = self.output_shape(x.shape)
        y = self._y.take(shape, x.dtype)
        self._which = self._numbers.take(shape, np.uint8)
        return self._largest(x, y, self._which)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        axis = self.axis % dy.ndim
        shape = (*dy.shape[:axis], dy.shape[axis] * self.pieces, *dy.shape[axis + 1 :])
        dx = self._dx.take(shape, dy.dtype)
        return maxout_backward(dy, self._which, self.pieces, self.axis, out=dx)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        shape = self.output_shape(x.shape)
        return self._largest(x, np.empty(shape, x.dtype), np.empty(shape, np.uint8))

    def _largest(self, x: Array, y: Array, which: NDArray[np.uint8]) -> Array:
        # nnfast.maxout makes a new `which` at every call.
        _core.maxout(x, y, which, self.axis % x.ndim, self.pieces)
        return y

    def _settings(self) -> str:
        return f"{self.pieces}"


def axis_within(axis: int, shape: Shape) -> int:
    """The axis as a non-negative number; a ValueError if there is no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"x must have an axis {axis}, got shape {shape}")
    return axis % len(shape)
