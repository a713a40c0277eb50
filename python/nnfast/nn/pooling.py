"""Layers that pool images or sequences: the largest value or the mean of windows, or of whole channels."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from nnfast import _checks, pooling
from nnfast.nn.convolution import Sides, side_text
from nnfast.nn.layer import Array, Buffer, KernelLayer, Shape


class _Pool(KernelLayer):
    """What layers of pooling share: functions of one number of dimensions, and of the axis of the channels."""

    _dims: ClassVar[int]
    _function: Callable[..., Any]
    _derivative: Callable[..., Any]

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = _checks.integer(axis, "axis")
        if self.axis == 0:
            raise ValueError("axis must not be the first, which is the samples', got 0")
        self._x_shape: Shape = ()

    def _options(self) -> dict[str, Any]:
        """How the forward function is called."""
        return {"axis": self.axis}

    def _train(self, x: Array, overwrite: bool) -> Array:
        if self._x_shape != x.shape:
            self._x_shape, self._y_shape = x.shape, self.output_shape(x.shape)
        y: Array = self._function(x, **self._options(), out=self._y.take(self._y_shape, x.dtype))
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        dx: Array = self._derivative(
            dy, shape=self._x_shape, **self._options(), out=self._dx.take(self._x_shape, dy.dtype)
        )
        return dx

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = self._function(x, **self._options())
        return y

    def _settings(self) -> str:
        return f"axis={self.axis}" if self.axis != 1 else ""


class _WindowPool(_Pool):
    """Pooling of windows."""

    def __init__(
        self,
        kernel_size: Sides,
        stride: Sides | None,
        padding: Sides,
        dilation: Sides,
        ceil_mode: bool,
        axis: int,
    ) -> None:
        super().__init__(axis)
        self.kernel_size, self.stride, self.padding, self.dilation = pooling.window(
            self._dims, kernel_size, stride, padding, dilation
        )
        self.ceil_mode = bool(ceil_mode)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        return pooling.windows_of(
            input_shape,
            self._dims,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.axis,
        ).shape

    def _options(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
            "axis": self.axis,
        }

    def _settings(self) -> str:
        usual = {
            "stride": self.kernel_size,
            "padding": 0,
            "dilation": 1,
            "ceil_mode": False,
            "count_include_pad": True,
            "axis": 1,
        }
        given = [side_text(self.kernel_size)]
        for name, value in self._options().items():
            if name != "kernel_size" and side_text(value) != side_text(usual[name]):
                given.append(f"{name}={side_text(value)}")
        return ", ".join(given)


class MaxPool2d(_WindowPool):
    """The largest value of every window of an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Elements of a window, along both axes or along each.
    stride : int or (int, int), optional
        That of kernel_size by default.
    padding : int or (int, int), default 0
    dilation : int or (int, int), default 1
    ceil_mode : bool, default False
        As of nnfast.max_pool2d.
    axis : int, default 1
        The axis of the channels, any but the first; -1 for channels last.

    Raises
    ------
    TypeError
        If a number is no int.
    ValueError
        If one is out of range; from forward, if x has not four axes, or no window fits.

    Notes
    -----
    Keeps the positions of the maxima for the backward pass, int32, and not x.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    _dims = 2
    _function = staticmethod(pooling.max_pool2d)
    _derivative = staticmethod(pooling.max_pool2d_backward)

    def __init__(
        self,
        kernel_size: Sides,
        stride: Sides | None = None,
        *,
        padding: Sides = 0,
        dilation: Sides = 1,
        ceil_mode: bool = False,
        axis: int = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, axis)
        self._positions = Buffer()
        self._which = np.empty(0, np.int32)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"dilation": self.dilation}

    def _train(self, x: Array, overwrite: bool) -> Array:
        if self._x_shape != x.shape:
            self._x_shape, self._y_shape = x.shape, self.output_shape(x.shape)
        self._which = self._positions.take(self._y_shape, np.int32)
        out = (self._y.take(self._y_shape, x.dtype), self._which)
        y: Array = self._function(x, **self._options(), out=out)[0]
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        out = self._dx.take(self._x_shape, dy.dtype)
        dx: Array = self._derivative(dy, self._which, self._x_shape, axis=self.axis, out=out)
        return dx

    def _infer(self, x: Array, overwrite: bool) -> Array:
        y: Array = self._function(x, **self._options())[0]
        return y


class MaxPool1d(MaxPool2d):
    """The largest value of every window of a sequence.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
    padding : int, default 0
    dilation : int, default 1
    ceil_mode, axis
        As of MaxPool2d.

    Raises
    ------
    TypeError, ValueError
        As MaxPool2d.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.MaxPool1d(2).forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]))
    array([[[3., 2.]]])
    """

    _dims = 1
    _function = staticmethod(pooling.max_pool1d)
    _derivative = staticmethod(pooling.max_pool1d_backward)


class AvgPool2d(_WindowPool):
    """The mean of every window of an image.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Elements of a window, along both axes or along each.
    stride : int or (int, int), optional
        That of kernel_size by default.
    padding : int or (int, int), default 0
    ceil_mode : bool, default False
    count_include_pad : bool, default True
        As of nnfast.avg_pool2d.
    axis : int, default 1
        The axis of the channels, any but the first; -1 for channels last.

    Raises
    ------
    TypeError
        If a number is no int.
    ValueError
        If one is out of range; from forward, if x has not four axes, or no window fits.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.AvgPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    _dims = 2
    _function = staticmethod(pooling.avg_pool2d)
    _derivative = staticmethod(pooling.avg_pool2d_backward)

    def __init__(
        self,
        kernel_size: Sides,
        stride: Sides | None = None,
        *,
        padding: Sides = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        axis: int = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode, axis)
        self.count_include_pad = bool(count_include_pad)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"count_include_pad": self.count_include_pad}


class AvgPool1d(AvgPool2d):
    """The mean of every window of a sequence.

    Parameters
    ----------
    kernel_size : int
    stride : int, optional
    padding : int, default 0
    ceil_mode, count_include_pad, axis
        As of AvgPool2d.

    Raises
    ------
    TypeError, ValueError
        As AvgPool2d.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.AvgPool1d(2).forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]))
    array([[[2., 1.]]])
    """

    _dims = 1
    _function = staticmethod(pooling.avg_pool1d)
    _derivative = staticmethod(pooling.avg_pool1d_backward)


class GlobalAvgPool2d(_Pool):
    """The mean of every channel of an image: (N, C, H, W) to (N, C).

    Parameters
    ----------
    axis : int, default 1
        The axis of the channels, any but the first; -1 for channels last.

    Raises
    ------
    TypeError
        If axis is no int.
    ValueError
        If axis is 0; from forward, if x has not four axes.

    References
    ----------
    Lin, Chen, Yan, "Network in network", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.GlobalAvgPool2d().forward(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    _dims = 2
    _function = staticmethod(pooling.global_avg_pool2d)
    _derivative = staticmethod(pooling.global_avg_pool2d_backward)

    def __init__(self, *, axis: int = 1) -> None:
        super().__init__(axis)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        channel, _ = pooling.plane_axes(input_shape, self._dims, self.axis)
        return input_shape[0], input_shape[channel]


class GlobalAvgPool1d(GlobalAvgPool2d):
    """The mean of every channel of a sequence: (N, C, L) to (N, C).

    Parameters
    ----------
    axis : int, default 1
        As of GlobalAvgPool2d.

    Raises
    ------
    TypeError, ValueError
        As GlobalAvgPool2d.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.GlobalAvgPool1d().forward(np.array([[[1.0, 3.0], [5.0, 9.0]]]))
    array([[2., 7.]])
    """

    _dims = 1
    _function = staticmethod(pooling.global_avg_pool1d)
    _derivative = staticmethod(pooling.global_avg_pool1d_backward)
