"""Layers that slide a kernel over images or sequences: Conv2d, Conv1d."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from nnfast import _checks, convolution, init, pooling
from nnfast.convolution import Padding
from nnfast.nn.dense import Weighted, first_weight
from nnfast.nn.layer import Array, Shape

Sides = int | tuple[int, ...]


class _Convolution(Weighted):
    """What Conv1d and Conv2d share."""

    _dims: ClassVar[int]
    _function: Callable[..., Any]
    _derivative: Callable[..., Any]

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: Sides,
        stride: Sides = 1,
        *,
        padding: Padding = 0,
        dilation: Sides = 1,
        groups: int = 1,
        bias: bool = True,
        axis: int = 1,
        dtype: DTypeLike | None = None,
        init: str | init.Initialiser = "he",
        rng: init.Rng = None,
    ) -> None:
        super().__init__(dtype, learns=True)
        self.n_in = _checks.integer_from(n_in, 1, "n_in")
        self.n_out = _checks.integer_from(n_out, 1, "n_out")
        self.kernel_size = pooling.sides(kernel_size, self._dims, 1, "kernel_size")
        self.groups = _checks.integer_from(groups, 1, "groups")
        if self.n_in % self.groups or self.n_out % self.groups:
            raise ValueError(
                f"groups must divide n_in, {self.n_in}, and n_out, {self.n_out}, got {self.groups}"
            )
        convolution._options(stride, padding, dilation, groups, axis, self._dims)  # checks them
        self.stride, self.dilation = (
            pooling.sides(value, self._dims, 1, name)
            for value, name in ((stride, "stride"), (dilation, "dilation"))
        )
        self.padding: tuple[int, ...] | str = (
            padding
            if isinstance(padding, str)
            else pooling.sides(padding, self._dims, 0, "padding")
        )
        self.axis = _checks.integer(axis, "axis")
        shape = (self.n_out, self.n_in // self.groups, *self.kernel_size)
        self._add_params(weight=first_weight(shape, self._dtype, init, rng))
        if bias:
            self._add_params(bias=np.zeros(self.n_out, self._dtype))
        self._x = self.weight
        self._shapes: tuple[Shape, Shape] = ((), ())

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        channel, axes = pooling.plane_axes(input_shape, self._dims, self.axis)
        if input_shape[channel] != self.n_in:
            raise ValueError(
                f"x must have {self.n_in} channels along axis {self.axis}, got {input_shape}"
            )
        found = list(input_shape)
        if self.padding != "same":
            around = 0 if isinstance(self.padding, str) else self.padding
            windows = pooling.windows_of(
                input_shape,
                self._dims,
                self.kernel_size,
                self.stride,
                around,
                self.dilation,
                axis=self.axis,
                half=False,
            )
            for d in axes:
                found[d] = windows.shape[d]
        found[channel] = self.n_out
        return tuple(found)

    def _train(self, x: Array, overwrite: bool) -> Array:
        self._x = x
        if self._shapes[0] != x.shape:
            self._shapes = x.shape, self.output_shape(x.shape)
        return self._convolved(x, self._y.take(self._shapes[1], x.dtype))

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._convolved(x, None)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        x, grads = self._x, self._own_grads
        dx = self._dx.take(x.shape, x.dtype) if need_dx else None
        self._derivative(
            dy,
            x,
            self._own_params["weight"],
            **self._options(),
            need=(need_dx, True, "bias" in grads),
            out=(dx, grads["weight"], grads.get("bias")),
        )
        return dx

    def _convolved(self, x: Array, out: Array | None) -> Array:
        params = self._own_params
        y: Array = self._function(
            x, params["weight"], params.get("bias"), **self._options(), out=out
        )
        return y

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "axis": self.axis,
        }

    def _settings(self) -> str:
        usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "axis": 1}
        given = [f"{self.n_in}", f"{self.n_out}", side_text(self.kernel_size)]
        for name, value in self._options().items():
            text = side_text(value)
            if text != str(usual[name]):
                given.append(f"{name}={text}")
        return ", ".join(given) + ("" if self.bias is not None else ", bias=False")


def side_text(value: Any) -> str:
    """Sides as short as they can be given: 3 for (3, 3)."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return repr(value)


class Conv2d(_Convolution):
    """A convolution of images, with a bias: ``y = conv2d(x, weight, bias)``.

    Parameters
    ----------
    n_in, n_out : int
        Channels of x and of y, at least 1.
    kernel_size : int or (int, int)
        Height and width of the kernels.
    stride : int or (int, int), default 1
        Step from one output to the next.
    padding : int, (int, int), "same" or "valid", default 0
        Zeros before and after x; "same" gives y the height and width of x.
    dilation : int or (int, int), default 1
        Step from one element of a kernel to the next, in x.
    groups : int, default 1
        Divides channels and outputs; n_in for a depthwise convolution.
    bias : bool, default True
        Whether there is a bias, which begins with zeros. Before a BatchNorm none is needed.
    axis : int, default 1
        The axis of the channels: 1 for (N, C, H, W), -1 for (N, H, W, C).
    dtype : float32 or float64, optional
        Of the parameters, and of y: that of the network if it is given one, else float32.
    init : str or function, default "he"
        First weights: a name that nnfast.init.by_name knows, or a function ``f(shape, dtype=..., rng=...)``.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        What the weights are drawn from, as nnfast.init says: one Generator serves a whole network.

    Attributes
    ----------
    weight : ndarray, shape (n_out, n_in / groups, height, width)
        Whatever axis is.
    bias : ndarray, shape (n_out,), or None
        Written in place, ``layer.weight[...] = w`` or ``layer.weight = w``; named so in named_params.

    Raises
    ------
    TypeError
        If a number is no int, or dtype another.
    ValueError
        If a number is out of range, groups does not divide the channels, "same" meets a stride, or init is unknown;
        from forward, if x has another number of channels, or the kernel is larger than the padded x.

    Notes
    -----
    Keeps x for the backward pass. The bias is added in the convolution's own pass; a BatchNorm and a ReLU that follow
    share one.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.Conv2d(3, 8, 3, stride=2, padding=1, rng=0)
    >>> y = layer.forward(np.ones((4, 3, 32, 32)), training=True)
    >>> dx = layer.backward(np.ones(y.shape))
    >>> y.shape, dx.shape, layer.weight.shape
    ((4, 8, 16, 16), (4, 3, 32, 32), (8, 3, 3, 3))
    """

    _dims = 2
    _function = staticmethod(convolution.conv2d)
    _derivative = staticmethod(convolution.conv2d_backward)


class Conv1d(_Convolution):
    """A convolution of sequences, with a bias: ``y = conv1d(x, weight, bias)``.

    Parameters
    ----------
    n_in, n_out : int
        Channels of x and of y, at least 1.
    kernel_size : int
        Length of the kernels.
    stride : int, default 1
        Step from one output to the next.
    padding : int, "same" or "valid", default 0
        Zeros before and after x; "same" gives y the length of x.
    dilation : int, default 1
        Step from one element of a kernel to the next, in x.
    groups : int, default 1
        Divides channels and outputs; n_in for a depthwise convolution.
    bias : bool, default True
        Whether there is a bias, as of Conv2d.
    axis : int, default 1
        The axis of the channels: 1 for (N, C, L), -1 for (N, L, C).
    dtype, init, rng
        As of Conv2d.

    Attributes
    ----------
    weight : ndarray, shape (n_out, n_in / groups, kernel_size)
    bias : ndarray, shape (n_out,), or None
        As of Conv2d.

    Raises
    ------
    TypeError, ValueError
        As Conv2d.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.Conv1d(4, 6, 5, padding="same", rng=0).forward(np.ones((2, 4, 20))).shape
    (2, 6, 20)
    """

    _dims = 1
    _function = staticmethod(convolution.conv1d)
    _derivative = staticmethod(convolution.conv1d_backward)
