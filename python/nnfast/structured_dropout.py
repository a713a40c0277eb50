"""Relatives of dropout that drop whole structures: feature maps, layers, connections."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable
from math import prod
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs, _masks
from nnfast._load import _core
from nnfast._masks import AnyMask, MaskAs
from nnfast._seeds import Rng, seed_or_draw
from nnfast.dropout import (
    _require_disjoint,
    alpha_dropout,
    alpha_numbers,
    dropout,
    dropout_backward,
    scale_of,
)

__all__ = [
    "drop_connect",
    "drop_connect_backward",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
    "stochastic_depth",
    "stochastic_depth_backward",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_MAPS = """Drop whole {what} with probability p and scale the others by ``1 / (1 - p)``.

Neighbouring values of a map are strongly correlated, so dropping them one by one would hide little.

Parameters
----------
x : array_like of float16, float32 or float64, shape {shape}
    Or with the channels along another axis.
p : float in [0, 1], default 0.5
    Probability of dropping a map. 0 is the identity, 1 gives zeros.
training : bool, default True
    In inference y is x.
rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
    Source of the mask, as of dropout.
mask : ndarray, optional
    A mask to use instead of a random one, in any form that dropout takes, of an array of shape (N, C).
mask_as : "bits" or "bool", default "bits"
    The form of the mask that is returned, as of dropout.
axis : int, default 1
    The axis of the channels; -1 for channels-last.
out : ndarray of x's dtype and shape, optional
    Takes y; ``out=x`` is allowed.

Returns
-------
y : ndarray of x's dtype and shape
    0 where a map was dropped, even if x is NaN or infinite there.
mask : ndarray of uint8, shape (ceil(N C / 8),), or of bool, shape (N, C), or None in inference
    One bit per map, 1 where it was kept: ``dropout_mask((N, C), p, rng=rng, mask_as=mask_as)``.

Raises
------
TypeError
    If x is not of real numbers, rng is of another type, or mask or out has another dtype.
ValueError
    If p or rng is out of range, mask_as is unknown, a shape does not match, or out is read-only or overlaps.

See Also
--------
{see_also}

References
----------
Tompson et al., "Efficient object localization using convolutional networks", 2015.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> y, mask = nf.{name}(np.ones({example}), p=0.5, rng=0)
>>> np.unique(y).tolist(), mask.shape
([0.0, 2.0], (1,))
"""

_MAPS_BACKWARD = """Gradient of {forward} in training: dy where the map was kept, scaled as it was, else 0.

Parameters
----------
dy : array_like of float16, float32 or float64, shape {shape}
    Gradient of the loss with respect to y.
mask : ndarray
    What {forward} returned, or a mask in any form that it takes.
p : float in [0, 1], default 0.5
    As given to {forward}.
axis : int, default 1
    As given to {forward}.
out : ndarray of dy's dtype and shape, optional
    ``out=dy`` is allowed.

Returns
-------
dx : ndarray of dy's dtype and shape
    Gradient of the loss with respect to x.

Raises
------
TypeError
    If dy is not of real numbers, or mask or out has another dtype.
ValueError
    If p is out of range, a shape does not match, or out is read-only or overlaps.

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
>>> mask = nf.dropout_mask({maps}, p=0.5, rng=0)
>>> dx = nf.{name}(np.ones({example}), mask, p=0.5)
>>> np.unique(dx).tolist()
[0.0, 2.0]
"""

_SHAPES = {
    1: ("channels", "(N, C, L)", "(2, 4, 3)"),
    2: ("feature maps", "(N, C, H, W)", "(2, 4, 3, 3)"),
    3: ("feature maps", "(N, C, D, H, W)", "(2, 4, 3, 3, 3)"),
}


def _documented(function: Function) -> Function:
    """Give a function its docstring."""
    name = function.__name__
    forward = name.removesuffix("_backward")
    what, shape, example = _SHAPES[int(forward[-2])]
    text = _MAPS if name == forward else _MAPS_BACKWARD
    function.__doc__ = text.format(
        name=name,
        forward=forward,
        what=what,
        shape=shape,
        example=example,
        maps="(2, 4)",
        see_also=_docs.see_also(name),
    )
    return function


# Of x: elements that have the same places along them share a bit of the mask.
Axes = tuple[int, ...]


def _mask_shape(x: NDArray[Any], axes: Axes) -> tuple[int, ...]:
    return tuple(x.shape[d] for d in axes) or (1,)


def _drop(
    x: NDArray[Any],
    axes: Axes,
    p: float,
    training: bool,
    rng: Rng,
    mask: AnyMask | None,
    mask_as: MaskAs,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], AnyMask | None]:
    p = _checks.real_in(p, 0, 1, "p")
    if mask_as != "bits":
        _masks.check_form(mask_as)
    if not training:
        return dropout(x, p, training=False, out=out)
    scale = scale_of(p, "inverted")
    if mask is None:
        y, mask = _core.drop_slices(x, axes, p, scale, seed_or_draw(rng), out)
        if mask_as == "bits":
            return y, mask
    else:
        y = _core.keep_slices(x, mask, axes, scale, out, "x")
    return y, _masks.in_form(mask, _mask_shape(x, axes), mask_as)


def _drop_backward(
    dy: NDArray[Any], axes: Axes, mask: AnyMask, p: float, out: NDArray[Any] | None
) -> NDArray[Any]:
    p = _checks.real_in(p, 0, 1, "p")
    return _core.keep_slices(dy, mask, axes, scale_of(p, "inverted"), out, "dy")


def _axes_of_maps(x: NDArray[Any], name: str, dims: int, axis: int) -> Axes:
    if x.ndim != dims + 2:
        raise ValueError(f"{name} must have shape {_SHAPES[dims][1]}, got {x.shape}")
    if type(axis) is int and axis == 1:  # as most are
        return (0, 1)
    axis = _arrays.axis_of(axis, x, name)
    if axis == 0:
        raise ValueError(f"axis must not be that of the samples, 0, got {axis}")
    return (0, axis)


def _drop_maps(
    x_in: ArrayLike,
    dims: int,
    p: float,
    training: bool,
    rng: Rng,
    mask: AnyMask | None,
    mask_as: MaskAs,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], AnyMask | None]:
    x = _arrays.floating(x_in, "x", float16=True)
    return _drop(x, _axes_of_maps(x, "x", dims, axis), p, training, rng, mask, mask_as, out)


def _drop_maps_backward(
    dy_in: ArrayLike,
    dims: int,
    mask: AnyMask,
    p: float,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    dy = _arrays.floating(dy_in, "dy", float16=True)
    return _drop_backward(dy, _axes_of_maps(dy, "dy", dims, axis), mask, p, out)


@_documented
def dropout1d(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    return _drop_maps(x, 1, p, training, rng, mask, mask_as, axis, out)


@_documented
def dropout1d_backward(
    dy: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
    *,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    return _drop_maps_backward(dy, 1, mask, p, axis, out)


@_documented
def dropout2d(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    return _drop_maps(x, 2, p, training, rng, mask, mask_as, axis, out)


@_documented
def dropout2d_backward(
    dy: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
    *,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    return _drop_maps_backward(dy, 2, mask, p, axis, out)


@_documented
def dropout3d(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    return _drop_maps(x, 3, p, training, rng, mask, mask_as, axis, out)


@_documented
def dropout3d_backward(
    dy: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
    *,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    return _drop_maps_backward(dy, 3, mask, p, axis, out)


def feature_alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    """Alpha dropout of whole feature maps: those dropped take SELU's lowest value, and mean and variance are kept.

    ``y = a (x if kept else α′) + b``, with the a, α′ and b of alpha_dropout.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, ...)
        Or with the channels along another axis. y has mean 0 and variance 1 if x has.
    p : float in [0, 1], default 0.5
        Probability of dropping a map. 0 is the identity, 1 gives zeros.
    training : bool, default True
        In inference y is x.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask : ndarray, optional
        A mask to use instead of a random one, in any form that dropout takes, of an array of shape (N, C).
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    axis : int, default 1
        The axis of the channels; -1 for channels-last.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        In inference x's values.
    mask : ndarray of uint8, shape (ceil(N C / 8),), or of bool, shape (N, C), or None in inference
        One bit per map, 1 where it was kept: ``dropout_mask((N, C), p, rng=rng, mask_as=mask_as)``.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p or rng is out of range, mask_as is unknown, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    feature_alpha_dropout_backward : Its gradient.
    torch.nn.functional.feature_alpha_dropout : PyTorch's.
    alpha_dropout, dropout2d

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", 2017; PyTorch's ``feature_alpha_dropout``.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.feature_alpha_dropout(np.zeros((2, 4, 3)), p=0.5, rng=0)
    >>> np.unique(y.round(4)).tolist(), np.ptp(y, axis=2).max()
    ([-0.7792, 0.7792], np.float64(0.0))
    """
    x = _arrays.floating(x, "x", float16=True)
    p = _checks.real_in(p, 0, 1, "p")
    if mask_as != "bits":
        _masks.check_form(mask_as)
    axes = _axes_of_features(x, "x", axis)
    if not training:
        return alpha_dropout(x, p, training=False, out=out)
    if mask is None:
        y, mask = _core.alpha_slices(x, None, axes, p, *alpha_numbers(p), seed_or_draw(rng), out)
        if mask_as == "bits":
            return y, mask
    else:
        y, _ = _core.alpha_slices(x, mask, axes, p, *alpha_numbers(p), 0, out)
    return y, _masks.in_form(mask, _mask_shape(x, axes), mask_as)


def feature_alpha_dropout_backward(
    dy: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
    *,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of feature_alpha_dropout in training: a dy where the map was kept, else 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (N, C, ...)
        Gradient of the loss with respect to y.
    mask : ndarray
        What feature_alpha_dropout returned, or a mask in any form that it takes.
    p : float in [0, 1], default 0.5
        As given to feature_alpha_dropout.
    axis : int, default 1
        As given to feature_alpha_dropout.
    out : ndarray of dy's dtype and shape, optional
        ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of dy's dtype and shape
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If dy is not of real numbers, or mask or out has another dtype.
    ValueError
        If p is out of range, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    feature_alpha_dropout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> mask = np.array([[True, False]])
    >>> nf.feature_alpha_dropout_backward(np.ones((1, 2, 2)), mask).round(4)
    array([[[0.8864, 0.8864],
            [0.    , 0.    ]]])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    axes = _axes_of_features(dy, "dy", axis)
    p = _checks.real_in(p, 0, 1, "p")
    return _core.keep_slices(dy, mask, axes, alpha_numbers(p)[0], out, "dy")


def _axes_of_features(x: NDArray[Any], name: str, axis: int) -> Axes:
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (N, C, ...), got {x.shape}")
    return _axes_of_maps(x, name, x.ndim - 2, axis)


def _axes_of_samples(x: NDArray[Any], name: str, mode: str) -> Axes:
    if mode not in ("row", "batch"):
        raise ValueError(f"mode must be 'row' or 'batch', got {mode!r}")
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a scalar")
    return (0,) if mode == "row" else ()


def stochastic_depth(
    x: ArrayLike,
    p: float = 0.5,
    *,
    mode: Literal["row", "batch"] = "row",
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    """Drop the output of a residual branch, for some of the samples or for the whole batch.

    ``x + stochastic_depth(branch(x), p)[0]`` skips the branch with probability p and scales it by ``1 / (1 - p)``
    otherwise.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, ...)
        The output of the branch.
    p : float in [0, 1], default 0.5
        Probability of dropping it.
    mode : "row" or "batch", default "row"
        Whether samples are dropped independently, or all of them together.
    training : bool, default True
        In inference y is x.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask : ndarray, optional
        A mask to use instead of a random one, in any form that dropout takes, of an array of shape (N,), or (1,) of a
        batch.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        0 for samples that were dropped, the others scaled by ``1 / (1 - p)``.
    mask : ndarray, or None in inference
        One bit per sample, or one for all: of uint8, shape (ceil(N / 8),), or of bool, shape (N,); (1,) of a batch.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p or rng is out of range, mode or mask_as is unknown, a shape does not match, or out is read-only or
        overlaps.

    See Also
    --------
    stochastic_depth_backward : Its gradient.
    nnfast.nn.StochasticDepth : The layer.
    drop_connect, dropout

    References
    ----------
    Huang et al., "Deep networks with stochastic depth", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.stochastic_depth(np.ones((4, 2)), p=0.5, rng=1)
    >>> np.unique(y[:, 0] - y[:, 1])
    array([0.])
    """
    x = _arrays.floating(x, "x", float16=True)
    return _drop(x, _axes_of_samples(x, "x", mode), p, training, rng, mask, mask_as, out)


def stochastic_depth_backward(
    dy: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
    *,
    mode: Literal["row", "batch"] = "row",
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of stochastic_depth in training: dy where the sample was kept, scaled as it was, else 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (N, ...)
        Gradient of the loss with respect to y.
    mask : ndarray
        What stochastic_depth returned, or a mask in any form that it takes.
    p : float in [0, 1], default 0.5
        As given to stochastic_depth.
    mode : "row" or "batch", default "row"
        As given to stochastic_depth.
    out : ndarray of dy's dtype and shape, optional
        ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of dy's dtype and shape
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If dy is not of real numbers, or mask or out has another dtype.
    ValueError
        If p is out of range, mode is unknown, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    stochastic_depth : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.stochastic_depth_backward(np.ones((2, 2)), np.array([0b10], dtype=np.uint8), p=0.5)
    array([[0., 0.],
           [2., 2.]])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    return _drop_backward(dy, _axes_of_samples(dy, "dy", mode), mask, p, out)


def drop_connect(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    """Matrix product with some of the weights dropped: ``x @ dropout(weight, p)``.

    One mask is used for the whole batch, as in most implementations; the paper draws one for each sample.

    Parameters
    ----------
    x : array_like of float32 or float64, shape (..., n_in)
        The input of the layer.
    weight : array_like of x's dtype, shape (n_in, n_out)
        Its weights, which stay as they are.
    p : float in [0, 1], default 0.5
        Probability of dropping a weight; those kept are scaled by ``1 / (1 - p)``.
    training : bool, default True
        In inference no weight is dropped.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask : ndarray, optional
        A mask to use instead of a random one, in any form that dropout takes, of the weights.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    out : ndarray of x's dtype, shape (..., n_out), optional
        Takes y; shares no memory with x, weight or mask.

    Returns
    -------
    y : ndarray, shape (..., n_out)
        The product with the weights that were kept, scaled.
    mask : ndarray, or None in inference
        One bit per weight, as of dropout.

    Raises
    ------
    TypeError
        If an array is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p or rng is out of range, mask_as is unknown, a shape does not match, or out is read-only or shares memory.

    See Also
    --------
    drop_connect_backward : Its gradient.
    nnfast.nn.DropConnect : The layer.
    stochastic_depth, dropout

    References
    ----------
    Wan et al., "Regularization of neural networks using DropConnect", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.drop_connect(np.ones((1, 4)), np.ones((4, 2)), p=0.5, rng=0)
    >>> y.shape, mask.shape
    ((1, 2), (1,))
    """
    x, weight = _product_inputs(x, weight, "x")
    p = _checks.real_in(p, 0, 1, "p")
    shape = (*x.shape[:-1], weight.shape[1])
    _masks.check_form(mask_as)
    y = _arrays.output(out, shape, x.dtype, x, weight)
    if training:
        if isinstance(mask, np.ndarray):
            _require_disjoint(out, mask, "mask")
        weight, mask = dropout(weight, p, rng=rng, mask=mask, mask_as=mask_as)
    else:
        mask = None
    return np.matmul(x, weight, out=y), mask


def drop_connect_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    mask: AnyMask,
    p: float = 0.5,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of drop_connect in training, with respect to x and the weights.

    Parameters
    ----------
    dy : array_like, shape (..., n_out)
        Gradient of the loss with respect to y.
    x : array_like of float32 or float64, shape (..., n_in)
        What drop_connect was given.
    weight : array_like of x's dtype, shape (n_in, n_out)
        As given to drop_connect.
    mask : ndarray
        What drop_connect returned, or a mask in any form that it takes.
    p : float in [0, 1], default 0.5
        As given to drop_connect.

    Returns
    -------
    dx : ndarray, shape (..., n_in)
        ``dy @ dropped.T`` for the weights as they were dropped.
    dweight : ndarray, shape (n_in, n_out)
        ``x.T @ dy``, scaled where the weight was kept and 0 elsewhere.

    Raises
    ------
    TypeError
        If an array is not of real numbers or mask has another dtype.
    ValueError
        If p is out of range or a shape does not match.

    See Also
    --------
    drop_connect : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> mask = np.array([0b0110], dtype=np.uint8)
    >>> dx, dweight = nf.drop_connect_backward(np.ones((1, 2)), np.ones((1, 2)), np.ones((2, 2)), mask)
    >>> dweight
    array([[0., 2.],
           [2., 0.]])
    """
    x, weight = _product_inputs(x, weight, "x")
    dy = _arrays.floating(dy, "dy").astype(x.dtype, copy=False)
    if dy.shape != (*x.shape[:-1], weight.shape[1]):
        raise ValueError(f"dy must have shape {(*x.shape[:-1], weight.shape[1])}, got {dy.shape}")
    dropped, _ = dropout(weight, p, mask=mask)
    rows = prod(x.shape[:-1])
    of_all = x.reshape(rows, x.shape[-1]).T @ dy.reshape(rows, dy.shape[-1])
    return dy @ dropped.T, dropout_backward(of_all, mask, p, out=of_all)


def _product_inputs(
    x: ArrayLike, weight: ArrayLike, name: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays of one dtype whose shapes match."""
    x = _arrays.floating(x, name)
    weight = _arrays.floating(weight, "weight").astype(x.dtype, copy=False)
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (n_in, n_out), got {weight.shape}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"{name} must have shape (..., {weight.shape[0]}) for weight with shape {weight.shape}, "
            f"got {x.shape}"
        )
    return x, weight
