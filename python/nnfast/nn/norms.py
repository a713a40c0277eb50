"""Norms that take statistics of each sample alone: LayerNorm, RMSNorm, GroupNorm, InstanceNorm."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from nnfast import _checks
from nnfast.layer_norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from nnfast.nn.layer import Array, KernelLayer, Parameter, Shape, Statistic
from nnfast.normalization import group_norm, group_norm_backward, instance_norm

_Result = tuple[Array, Any]


class _SampleNorm(KernelLayer):
    """The base of these norms, whose forward pass is the same in training and in inference."""

    _derivative: ClassVar[Callable[..., Any]]
    _x: Array
    _saved: Any = None

    gamma = Parameter()

    def __init__(self, shape: Shape, dtype: DTypeLike | None, *, shift: bool) -> None:
        super().__init__(dtype, learns=True)
        self._add_params(gamma=np.ones(shape, self._dtype))
        if shift:
            self._add_params(beta=np.zeros(shape, self._dtype))

    def _normalized(self, x: Array, out: Array | None) -> _Result:
        raise NotImplementedError

    def _train(self, x: Array, overwrite: bool) -> Array:
        y, self._saved = self._normalized(x, self._y.take(x.shape, x.dtype))
        self._x = x
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        dx = dy if overwrite else self._dx.take(dy.shape, dy.dtype)
        out = (dx, *self._own_grads.values())
        self._derivative(dy, self._x, self.gamma, self._saved, out=out)
        return dx

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._normalized(x, x if overwrite else None)[0]


# ---- along axes ----


class _AlongAxes(_SampleNorm):
    """The base of LayerNorm and RMSNorm."""

    def __init__(
        self,
        n: int | tuple[int, ...],
        axis: int | tuple[int, ...] | None,
        dtype: DTypeLike | None,
        *,
        shift: bool,
    ) -> None:
        sides = _integers(n, "n")
        for side in sides:
            _checks.integer_from(side, 1, "n")
        self.n = sides if isinstance(n, tuple) else sides[0]
        self.axis = tuple(range(-len(sides), 0)) if axis is None else _integers(axis, "axis")
        if len(self.axis) != len(sides):
            raise ValueError(
                f"axis must name as many axes as n has numbers, {len(sides)}, got {axis!r}"
            )
        super().__init__(sides, dtype, shift=shift)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axes = len(input_shape)
        places = sorted({axis % axes for axis in self.axis if -axes <= axis < axes})
        if tuple(input_shape[place] for place in places) != self.gamma.shape:
            which = self.axis if isinstance(self.n, tuple) else self.axis[0]
            raise ValueError(
                f"x must have the shape {self.n} along axis {which}, got {input_shape}"
            )
        return input_shape

    def _settings(self) -> str:
        last = tuple(range(-len(self.axis), 0))
        if self.axis == last:
            return f"{self.n}"
        return f"{self.n}, axis={self.axis if len(self.axis) > 1 else self.axis[0]}"


class LayerNorm(_AlongAxes):
    """Layer normalization with learned scale and shift: ``y = gamma * (x - mean) / sqrt(var + eps) + beta``.

    Mean and variance are those of each sample along `axis`, in training and in inference.

    Parameters
    ----------
    n : int or tuple of ints
        The shape that x has along `axis`: features, as a rule.
    axis : int or tuple of ints, optional
        The axes along which values are normalized together, as many as n has numbers. Default: the last ones.
    eps : float, default 1e-5
    dtype : float32 or float64, optional
        That of the network if it is given one, else float32.

    Attributes
    ----------
    gamma, beta : ndarray of shape n
        Learned; they begin with ones and zeros. Written in place, ``layer.gamma[...] = g`` or ``layer.gamma = g``.

    Raises
    ------
    TypeError
        If n or axis is no int or tuple of ints, eps not a real number, or dtype another.
    ValueError
        If n is below 1 or empty, axis names another number of axes, or eps is not positive; from forward, if x has not
        the shape n along `axis`.

    Notes
    -----
    Keeps x for the backward pass. Weight decay is usually left out for gamma and beta.

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.LayerNorm(2)
    >>> y = layer.forward(np.array([[1.0, 3.0], [5.0, 5.0]]), training=True)
    >>> dx = layer.backward(np.ones((2, 2)))
    >>> y.round(3), layer.grads[1]
    (array([[-1.,  1.],
           [ 0.,  0.]], dtype=float32), array([2., 2.], dtype=float32))
    """

    _derivative = staticmethod(layer_norm_backward)

    beta = Parameter()

    def __init__(
        self,
        n: int | tuple[int, ...],
        *,
        axis: int | tuple[int, ...] | None = None,
        eps: float = 1e-5,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.eps = _checks.positive(eps, "eps")
        super().__init__(n, axis, dtype, shift=True)

    def _normalized(self, x: Array, out: Array | None) -> _Result:
        return layer_norm(x, **self._own_params, axis=self.axis, eps=self.eps, out=out)


class RMSNorm(_AlongAxes):
    """Layer normalization without a mean, with a learned scale: ``y = gamma * x / sqrt(mean(x**2) + eps)``.

    Parameters
    ----------
    n : int or tuple of ints
        The shape that x has along `axis`: features, as a rule.
    axis : int or tuple of ints, optional
        The axes along which values are normalized together, as many as n has numbers. Default: the last ones.
    eps : float, optional
        Default: the machine epsilon of the dtype, as in PyTorch.
    dtype : float32 or float64, optional
        That of the network if it is given one, else float32.

    Attributes
    ----------
    gamma : ndarray of shape n
        Learned; begins with ones. Written in place, ``layer.gamma[...] = g`` or ``layer.gamma = g``.

    Raises
    ------
    TypeError, ValueError
        As LayerNorm.

    Notes
    -----
    Keeps x for the backward pass.

    References
    ----------
    Zhang, Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.RMSNorm(4).forward(np.array([[3.0, 4.0, 0.0, 0.0]])).round(6)
    array([[1.2, 1.6, 0. , 0. ]], dtype=float32)
    """

    _derivative = staticmethod(rms_norm_backward)

    def __init__(
        self,
        n: int | tuple[int, ...],
        *,
        axis: int | tuple[int, ...] | None = None,
        eps: float | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.eps = None if eps is None else _checks.positive(eps, "eps")
        super().__init__(n, axis, dtype, shift=False)

    def _normalized(self, x: Array, out: Array | None) -> _Result:
        return rms_norm(x, **self._own_params, axis=self.axis, eps=self.eps, out=out)


def _integers(value: int | tuple[int, ...], name: str) -> tuple[int, ...]:
    """One int, or several, as a tuple that is not empty."""
    several = value if isinstance(value, tuple) else (value,)
    if not several:
        raise ValueError(f"{name} must hold at least one int, got ()")
    return tuple(_checks.integer(each, name) for each in several)


# ---- groups of channels ----


class GroupNorm(_SampleNorm):
    """Group normalization with learned scale and shift: ``y = gamma * (x - mean) / sqrt(var + eps) + beta``.

    Mean and variance are those of a group of channels of each sample, in training and in inference.

    Parameters
    ----------
    num_groups : int
        Divides n; neighbouring channels are a group.
    n : int
        Channels.
    eps : float, default 1e-5
    axis : int, default 1
        The axis of the channels, any but the first; -1 for channels last.
    dtype : float32 or float64, optional
        That of the network if it is given one, else float32.

    Attributes
    ----------
    gamma, beta : ndarray, shape (n,)
        Learned; they begin with ones and zeros. Written in place, ``layer.gamma[...] = g`` or ``layer.gamma = g``.

    Raises
    ------
    TypeError
        If num_groups, n or axis is no int, eps not a real number, or dtype another.
    ValueError
        If a number is out of range or num_groups does not divide n; from forward, if x has not n channels, or has one
        value for a group in training, which would learn nothing.

    Notes
    -----
    Keeps x for the backward pass.

    References
    ----------
    Wu, He, "Group normalization", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.GroupNorm(2, 4)
    >>> layer.forward(np.array([[1.0, 3.0, 5.0, 5.0]])).round(3)
    array([[-1.,  1.,  0.,  0.]], dtype=float32)
    """

    _derivative = staticmethod(group_norm_backward)

    beta = Parameter()

    def __init__(
        self,
        num_groups: int,
        n: int,
        *,
        eps: float = 1e-5,
        axis: int = 1,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.num_groups = _checks.integer_from(num_groups, 1, "num_groups")
        self.n = _checks.integer_from(n, 1, "n")
        if self.n % self.num_groups:
            raise ValueError(f"num_groups must divide n, {self.n}, got {self.num_groups}")
        self.eps = _checks.positive(eps, "eps")
        self.axis = _checks.integer(axis, "axis")
        if self.axis == 0:
            raise ValueError("axis must not be the first, which is the samples', got 0")
        super().__init__((self.n,), dtype, shift=True)

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axes = len(input_shape)
        if not -axes < self.axis < axes or input_shape[self.axis] != self.n:
            raise ValueError(
                f"x must have {self.n} channels along axis {self.axis}, got {input_shape}"
            )
        if training and prod(input_shape[1:]) < 2 * self.num_groups:
            raise ValueError(
                f"x must have two values a group or more in training, got {input_shape}"
            )
        return input_shape

    def _normalized(self, x: Array, out: Array | None) -> _Result:
        params = self._own_params
        return group_norm(x, self.num_groups, **params, eps=self.eps, axis=self.axis, out=out)

    def _settings(self) -> str:
        return f"{self.num_groups}, {self._own_settings()}"

    def _own_settings(self) -> str:
        return f"{self.n}" + (f", axis={self.axis}" if self.axis != 1 else "")


class InstanceNorm(GroupNorm):
    """Instance normalization with learned scale and shift: GroupNorm with as many groups as channels.

    Mean and variance are those of a channel of each sample, in training and, without running statistics, in inference.
    PyTorch's InstanceNorm1d, 2d and 3d have scale and shift only with ``affine=True``.

    Parameters
    ----------
    n : int
        Channels.
    eps, axis, dtype
        As of GroupNorm.
    track_running_stats : bool, default False
        Whether running statistics are kept in training, and used in inference.
    momentum : float in [0, 1] or None, default 0.1
        Weight of the new value in them; None: they are averages over all batches.

    Attributes
    ----------
    gamma, beta : ndarray, shape (n,)
        As of GroupNorm.
    running_mean, running_var : ndarray, shape (n,), or None
        With track_running_stats. They begin with zeros and ones.
    num_batches_tracked : ndarray of int64, shape (), or None
        Batches seen in training, where momentum is None.

    Raises
    ------
    TypeError, ValueError
        As GroupNorm, or if momentum is out of range.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.InstanceNorm(2).forward(np.array([[[1.0, 3.0], [5.0, 9.0]]])).round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]], dtype=float32)
    """

    track_running_stats = False
    momentum: float | None = 0.1
    running_mean = Statistic()
    running_var = Statistic()
    num_batches_tracked = Statistic()

    def __init__(
        self,
        n: int,
        *,
        eps: float = 1e-5,
        axis: int = 1,
        dtype: DTypeLike | None = None,
        track_running_stats: bool = False,
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__(n, n, eps=eps, axis=axis, dtype=dtype)
        self.momentum = None if momentum is None else _checks.real_in(momentum, 0, 1, "momentum")
        self.track_running_stats = bool(track_running_stats)
        if not track_running_stats:
            return
        self._own_statistics = {
            "running_mean": np.zeros(self.n, self._dtype),
            "running_var": np.ones(self.n, self._dtype),
        }
        if momentum is None:
            self._own_statistics["num_batches_tracked"] = np.zeros((), np.int64)

    def _normalized(self, x: Array, out: Array | None) -> _Result:
        return self._tracked(x, out, True)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._tracked(x, x if overwrite else None, False)[0]

    def _tracked(self, x: Array, out: Array | None, training: bool) -> _Result:
        return instance_norm(
            x,
            **self._own_params,
            **self._own_statistics,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
            axis=self.axis,
            out=out,
        )

    def _settings(self) -> str:
        tracks = ", track_running_stats=True" if self.track_running_stats else ""
        return self._own_settings() + tracks
