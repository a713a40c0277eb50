"""Dropout, whose masks are a function of the seed and the position alone."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from math import prod, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _masks, _seeds
from nnfast._arrays import Outputs
from nnfast._load import _core
from nnfast._masks import AnyMask, MaskAs
from nnfast._seeds import Rng

Mode = Literal["inverted", "vanilla"]
# CS231n's p is the probability of keeping an element.
AnyMode = Mode | Literal["cs231n"]
Mask = NDArray[np.uint8]
"""Packed bits."""
Probability = float | NDArray[np.float64]
"""Of dropping an element, for all elements or one per channel."""

# The value of a dropped element in alpha_dropout: the limit of SELU at minus infinity, -lambda alpha.
_SELU_LEAST = -1.7580993408473768


def dropout(
    x: ArrayLike,
    p: float | ArrayLike = 0.5,
    *,
    training: bool = True,
    mode: AnyMode = "inverted",
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    offset: int = 0,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    """Set elements to zero with probability p.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, any shape
        NaN and infinities are dropped as other elements are.
    p : float in [0, 1], or array_like of shape (x.shape[axis],), default 0.5
        Probability of dropping an element, rounded to 2**-32; an array has one for each channel. 0 is the identity,
        1 gives zeros.
    training : bool, default True
        In inference nothing is dropped.
    mode : "inverted", "vanilla" or "cs231n", default "inverted"
        Inverted dropout scales what it keeps by ``1 / (1 - p)`` in training; vanilla dropout scales by ``1 - p`` in
        inference instead. In CS231n's convention p is the probability of *keeping* an element, and what is kept is
        scaled by ``1 / p`` in training. The gradient needs the same mode.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask. An int in [0, 2**64) or a SeedSequence gives the same mask at every call; a Generator is
        advanced by one raw draw of its bit generator, which is the seed, as a BitGenerator is; a RandomState, or the
        module numpy.random for its global one, by a random integer of 64 bits; None takes fresh entropy.
    mask : ndarray, optional
        A mask to use instead of a random one: of bool and x's shape, True where an element is kept; of uint8 and x's
        shape, 1 and 0; or of uint8 and shape (ceil(x.size / 8),), packed as below, where bits past the end mean
        nothing. The shape tells the last two apart: for one element it is the same, and so is what 0 and 1 mean.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned: packed, or bool of x's shape. A given mask of this form is returned
        itself.
    offset : int, default 0
        For x that is part of a larger array: the position of its first element there, in C order. With the same int as
        `rng`, the pieces of an array get the masks of the whole.
    axis : int, default 1
        The axis of the channels, where p is an array.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        0 where an element was dropped, even if x is NaN or infinite there.
    mask : ndarray, or None in inference
        Of uint8, shape (ceil(x.size / 8),): one bit per element, 1 where it was kept,
        ``numpy.packbits(kept.ravel(), bitorder="little")``; or `kept` itself. It does not depend on threads,
        instruction set, dtype or strides.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype: a mask of floats holds
        the scale too, and must be given as ``mask != 0``.
    ValueError
        If p, rng or offset is out of range, mode or mask_as is unknown, a mask of uint8 and x's shape holds what is
        neither 0 nor 1, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    dropout_backward : Its gradient.
    nnfast.nn.Dropout : The layer.
    torch.nn.functional.dropout : PyTorch's.
    dropout_mask, alpha_dropout, bias_relu_dropout, dropout2d, drop_connect, stochastic_depth

    References
    ----------
    Srivastava et al., "Dropout", 2014; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.dropout(np.ones(8), p=0.5, rng=0)
    >>> np.array_equal(y == 2, np.unpackbits(mask, bitorder="little"))
    True
    """
    # The usual arguments are asked for first: the checks are most of a call on a small array.
    if mode != "inverted":
        _check_mode(mode)
    if mask_as != "bits":
        _masks.check_form(mask_as)
    scale: float | NDArray[np.float64]
    if type(p) is float or not _arrays.has_axes(p):
        if type(p) is not float or not 0 <= p <= 1:
            p = _checks.real_in(p, 0, 1, "p")
        inner = 1
        if not training:
            return _inference(x, p, mode, out)
        scale = scale_of(p, mode)
        if mode == "cs231n":
            p = 1 - p
    else:
        x, p, keep, inner = _by_channel(x, "x", p, mode, axis)
        if not training and mode == "vanilla":
            return _core.scale_by_channel(x, keep, inner, out), None
        if not training:
            return _inference(x, 0.0, mode, out)
        scale = 1.0 if mode == "vanilla" else keep
    if offset != 0:
        offset = _offset(offset)
    if mask is None and mask_as == "bits":
        seed = _seeds.seed_or_draw(rng)
        return _core.dropout(x, p, scale, -0.0, 0.0, inner, seed, offset, out)
    return _masked(x, p, scale, -0.0, 0.0, inner, rng, offset, mask, mask_as, out)


def dropout_backward(
    dy: ArrayLike,
    mask: AnyMask | None,
    p: float | ArrayLike = 0.5,
    *,
    mode: AnyMode = "inverted",
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of dropout in training: dy where the element was kept, scaled as it was, else 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64
        Gradient of the loss with respect to y.
    mask : ndarray
        What dropout returned, or a mask in any form that it takes.
    p : float in [0, 1] or array_like of shape (dy.shape[axis],), default 0.5
        As given to dropout.
    mode : "inverted", "vanilla" or "cs231n", default "inverted"
        As given to dropout.
    axis : int, default 1
        As given to dropout.
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
    dropout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.dropout_backward(np.ones(4), np.array([0b0101], dtype=np.uint8), p=0.5)
    array([2., 0., 2., 0.])
    """
    if mode != "inverted":
        _check_mode(mode)
    if type(p) is float or not _arrays.has_axes(p):
        if type(p) is not float or not 0 <= p <= 1:
            p = _checks.real_in(p, 0, 1, "p")
        return _core.apply_mask(dy, mask, scale_of(p, mode), out, "dy")
    dy, _, keep, inner = _by_channel(dy, "dy", p, mode, axis)
    return _core.apply_mask(
        dy, mask, 1.0 if mode == "vanilla" else keep, out, "dy", -0.0, 0.0, inner
    )


def dropout_mask(
    shape: int | tuple[int, ...],
    p: float | ArrayLike = 0.5,
    *,
    rng: Rng = None,
    mask_as: MaskAs = "bits",
    offset: int = 0,
    axis: int = 1,
    out: AnyMask | None = None,
) -> AnyMask:
    """Make the mask of dropout alone.

    Parameters
    ----------
    shape : int or tuple of ints
        Shape of the array to be masked.
    p : float in [0, 1], or array_like of shape (shape[axis],), default 0.5
        Probability of dropping an element.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    offset : int, default 0
        The position of the first element in a larger array, as of dropout.
    axis : int, default 1
        As of dropout.
    out : ndarray of uint8, shape (ceil(size / 8),), or of bool and that shape, optional
        Takes the result.

    Returns
    -------
    mask : ndarray of uint8, shape (ceil(size / 8),), or of bool and that shape
        ``dropout(x, p, rng=rng, mask_as=mask_as)[1]`` for an x of that shape.

    Raises
    ------
    TypeError
        If shape is no int or tuple of ints, rng is of another type or out has another dtype.
    ValueError
        If an argument is out of range, mask_as is unknown, or out has another shape or is read-only.

    See Also
    --------
    dropout, alpha_dropout, bias_relu_dropout, dropout2d

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> kept = nf.dropout_mask((2, 4), p=0.5, rng=0, mask_as="bool")
    >>> kept.dtype, kept.shape
    (dtype('bool'), (2, 4))
    """
    _masks.check_form(mask_as)
    sides = shape if isinstance(shape, tuple) else (shape,)
    sides = tuple(_checks.integer(side, "shape") for side in sides)
    if any(side < 0 for side in sides):
        raise ValueError(f"shape must not be negative, got {shape}")
    inner = 1
    if _arrays.has_axes(p):
        shaped = np.broadcast_to(np.float32(0), sides)
        _, p, _, inner = _by_channel(shaped, "an array", p, "inverted", axis)
    else:
        p = _checks.real_in(p, 0, 1, "p")
    offset = _offset(offset)
    size = prod(sides)
    if size >= 2**63:
        raise ValueError(f"shape must be that of an array, got {shape}")
    seed = _seeds.seed_or_draw(rng)
    if mask_as == "bits":
        return _core.dropout_mask(size, p, inner, seed, offset, out)
    if out is not None:
        _arrays.output(out, sides, np.dtype(bool))
    return _masks.delivered(_core.dropout_mask(size, p, inner, seed, offset, None), sides, out)


def alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    offset: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    r"""Dropout for SELU networks: dropped elements take SELU's lowest value, and mean and variance are kept.

    ``y = a (x if kept else α′) + b`` with α′ = −λα = −1.7581 and

    .. math:: a = \frac 1 {\sqrt{(1 - p)(1 + p \alpha'^2)}}, \qquad b = -a \, p \, \alpha'

    Parameters
    ----------
    x : array_like of float16, float32 or float64, any shape
        y has mean 0 and variance 1 if x has.
    p : float in [0, 1], default 0.5
        Probability of dropping an element. 1 gives zeros.
    training : bool, default True
        In inference y is x.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask : ndarray, optional
        A mask to use instead of a random one, in any form that dropout takes.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    offset : int, default 0
        As of dropout.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        In inference x's values.
    mask : ndarray, or None in inference
        As dropout gives it.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p, rng or offset is out of range, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    dropout, dropout_mask, bias_relu_dropout, dropout2d, feature_alpha_dropout
    alpha_dropout_backward : Its gradient.
    torch.nn.functional.alpha_dropout : PyTorch's.

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.alpha_dropout(np.zeros(8), p=0.5, rng=0)
    >>> np.unique(y.round(4))
    array([-0.7792,  0.7792])
    """
    p = _checks.real_in(p, 0, 1, "p")
    if mask_as != "bits":
        _masks.check_form(mask_as)
    if not training:
        return _inference(x, p, "inverted", out)
    if offset != 0:
        offset = _offset(offset)
    return _masked(x, p, *alpha_numbers(p), 1, rng, offset, mask, mask_as, out)


def alpha_dropout_backward(
    dy: ArrayLike, mask: AnyMask | None, p: float = 0.5, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient of alpha_dropout in training: a dy where the element was kept, else 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64
        Gradient of the loss with respect to y.
    mask : ndarray
        What alpha_dropout returned, or a mask in any form that it takes.
    p : float in [0, 1], default 0.5
        As given to alpha_dropout.
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
    alpha_dropout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.alpha_dropout_backward(np.ones(4), np.array([0b0101], dtype=np.uint8)).round(4)
    array([0.8864, 0.    , 0.8864, 0.    ])
    """
    p = _checks.real_in(p, 0, 1, "p")
    return _core.apply_mask(dy, mask, _alpha_scale(p), out, "dy")


def bias_relu_dropout(
    x: ArrayLike,
    bias: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    mode: AnyMode = "inverted",
    rng: Rng = None,
    mask: AnyMask | None = None,
    mask_as: MaskAs = "bits",
    offset: int = 0,
    out: Outputs = None,
) -> tuple[NDArray[Any], AnyMask | None]:
    """Compute dropout(relu(x + bias), p), what follows the matrix product of a hidden layer, in one pass.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        Usually a matrix product.
    bias : array_like, shape (n,)
        Converted to x's dtype.
    p : float in [0, 1], default 0.5
        Probability of dropping an element; what is kept is scaled by ``1 / (1 - p)``.
    training : bool, default True
        In inference it is bias_relu.
    mode : "inverted", "vanilla" or "cs231n", default "inverted"
        As of dropout. The gradient needs the same mode.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the mask, as of dropout.
    mask : ndarray, optional
        A mask of dropout to use instead of a random one. It is not changed.
    mask_as : "bits" or "bool", default "bits"
        The form of the mask that is returned, as of dropout.
    offset : int, default 0
        As of dropout.
    out : ndarray of x's dtype and shape, or a pair of arrays, optional
        For y, which may be x; the second of a pair takes the returned mask.

    Returns
    -------
    y : ndarray of x's dtype and shape
        ``dropout(relu(x + bias), p)``, the same bits.
    mask : ndarray of uint8, shape (ceil(x.size / 8),), or of bool and x's shape, or None in inference
        One bit per element, 1 where it was kept and x + bias is positive or NaN: all that the gradient needs.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p, rng or offset is out of range, mode is unknown, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    bias_relu_dropout_backward : Its gradient.
    dropout, dropout_mask, alpha_dropout, dropout2d

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.bias_relu_dropout(np.array([[-2.0, 0.0], [1.0, 0.0]]), [1.0, 3.0], p=0, rng=0)
    >>> y
    array([[0., 3.],
           [2., 3.]])
    >>> np.unpackbits(mask, count=4, bitorder="little")
    array([0, 1, 1, 1], dtype=uint8)
    """
    p = _checks.real_in(p, 0, 1, "p")
    _check_mode(mode)
    _masks.check_form(mask_as)
    if not training:
        from nnfast.bias import bias_relu

        y = bias_relu(x, bias, out=_checks.output_and(out, "the mask")[0])
        return _inference(y, p, mode, y) if mode == "vanilla" else (y, None)
    scale = scale_of(p, mode)
    if mode == "cs231n":
        p = 1 - p
    offset = _offset(offset)
    seed = _seeds.seed_or_draw(rng) if mask is None else 0
    y, mask_out = _checks.output_and(out, "the mask")
    if mask_as == "bits":
        return _core.bias_relu_dropout(x, bias, p, scale, seed, offset, mask, y, mask_out)
    x = _arrays.floating(x, "x", float16=True)
    if mask_out is not None:
        _arrays.output(mask_out, x.shape, np.dtype(bool), x, np.asarray(bias), np.asarray(y))
    y, bits = _core.bias_relu_dropout(x, bias, p, scale, seed, offset, mask, y, None)
    return y, _masks.delivered(bits, x.shape, mask_out)


def bias_relu_dropout_backward(
    dy: ArrayLike,
    mask: AnyMask | None,
    p: float = 0.5,
    *,
    mode: AnyMode = "inverted",
    out: Outputs = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of bias_relu_dropout with respect to x and the bias, in one pass.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (..., n)
        Gradient of the loss with respect to y.
    mask : ndarray
        What bias_relu_dropout returned, in either form.
    p : float in [0, 1], default 0.5
        As given to bias_relu_dropout.
    mode : "inverted", "vanilla" or "cs231n", default "inverted"
        As given to bias_relu_dropout.
    out : ndarray of dy's dtype and shape, or a pair of arrays, optional
        For dx, which may be dy; the second of a pair, of shape (n,), takes dbias.

    Returns
    -------
    dx : ndarray, shape (..., n)
        Gradient of the loss with respect to x.
    dbias : ndarray, shape (n,)
        The sum of dx over all axes but the last, in float64 and in an order that only the shape decides.

    Raises
    ------
    TypeError
        If dy is not of real numbers, or mask or out has another dtype.
    ValueError
        If p is out of range, mode is unknown, a shape does not match, or out is read-only or overlaps.

    See Also
    --------
    bias_relu_dropout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.bias_relu_dropout_backward(np.ones((2, 2)), np.array([0b1110], dtype=np.uint8), p=0)
    (array([[0., 1.],
           [1., 1.]]), array([1., 2.]))
    """
    p = _checks.real_in(p, 0, 1, "p")
    _check_mode(mode)
    outputs = _checks.output_and(out, "dbias")
    return _core.bias_relu_dropout_backward(dy, mask, scale_of(p, mode), *outputs)


def scale_of(p: float, mode: AnyMode) -> float:
    """The factor of kept elements in training."""
    if mode == "cs231n":
        return 1 / p if p > 0 else 1.0
    return 1.0 if mode == "vanilla" or p == 1 else 1 / (1 - p)


def alpha_numbers(p: float) -> tuple[float, float, float]:
    """The scale and shift of alpha dropout, and the value of what it drops."""
    a = _alpha_scale(p)
    b = -a * p * _SELU_LEAST or -0.0  # which changes nothing, not even -0
    return a, b, a * _SELU_LEAST + b if p < 1 else 0.0


def _alpha_scale(p: float) -> float:
    return 0.0 if p == 1 else 1 / sqrt((1 - p) * (1 + p * _SELU_LEAST**2))


def _check_mode(mode: str) -> None:
    _checks.one_of(mode, ("inverted", "vanilla", "cs231n"), "mode")


def _masked(
    x: ArrayLike,
    p: Probability,
    scale: float | NDArray[np.float64],
    shift: float,
    dropped: float,
    inner: int,
    rng: Rng,
    offset: int,
    mask: AnyMask | None,
    mask_as: MaskAs,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], AnyMask]:
    """``scale * x + shift`` where an element is kept, else `dropped`, by a random mask or the given one.

    An array in place of scale has the probabilities of keeping an element, whose inverses scale it.
    """
    # The shape is x's, as what out says of itself may be wrong; whatever can fail comes before it is written.
    if mask is None and mask_as == "bits":
        seed = _seeds.seed_or_draw(rng)
        return _core.dropout(x, p, scale, shift, dropped, inner, seed, offset, out)
    given, _ = _core.checked_output(x, out, "x")  # before a Generator is advanced
    if mask is not None:
        kept = _masks.in_form(mask, given.shape, mask_as)
        return _core.apply_mask(given, mask, scale, out, "x", shift, dropped, inner), kept
    seed = _seeds.seed_or_draw(rng)
    y, bits = _core.dropout(given, p, scale, shift, dropped, inner, seed, offset, out)
    return y, _masks.unpacked(bits, given.shape)


def _offset(offset: int) -> int:
    if type(offset) is not int:
        offset = _checks.integer(offset, "offset")
    if not 0 <= offset < 2**63:
        raise ValueError(f"offset must be in [0, 2**63), got {offset}")
    return offset


def _require_disjoint(out: NDArray[Any] | None, other: ArrayLike | None, name: str) -> None:
    if out is not None and np.shares_memory(out, other):
        raise ValueError(f"out and {name} must not share memory")


def _inference(
    x: ArrayLike, p: float, mode: AnyMode, out: NDArray[Any] | None
) -> tuple[NDArray[Any], None]:
    """x, scaled in vanilla mode."""
    x, y = _core.checked_output(x, out)
    scale = _parameter_type(x)(1 - p if mode == "vanilla" else 1.0)
    return _core._keep_scaled(x, scale, out=y), None


def _parameter_type(x: NDArray[Any]) -> type[np.float32 | np.float64]:
    """The type of factors of x; float16 is computed in float32."""
    return np.float64 if x.dtype == np.float64 else np.float32


# ---- a probability for each channel ----


def _by_channel(
    x: ArrayLike, name: str, p: ArrayLike, mode: AnyMode, axis: int
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64], int]:
    """x as an array, checked probabilities of dropping and keeping, and how many elements of a channel adjoin."""
    x = _arrays.floating(x, name, float16=True)
    axis = _arrays.axis_of(axis, x, name)
    values = _arrays.floating(p, "p").astype(np.float64, copy=False)
    if values.shape != (x.shape[axis],):
        raise ValueError(
            f"p must be a number or have shape {(x.shape[axis],)}, one for each channel, "
            f"got {values.shape}"
        )
    if not (values.min(initial=1) >= 0 and values.max(initial=0) <= 1):
        raise ValueError(f"p must be in [0, 1], got {values}")
    drop, keep = (1 - values, values) if mode == "cs231n" else (values, 1 - values)
    return x, drop, keep, prod(x.shape[axis + 1 :])
