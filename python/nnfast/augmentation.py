"""Augmentation of batches of images: flipped, cropped, erased in part, or given noise, each image by its own chance.

Where an image is flipped, cropped or erased follows from the seed and its place in the batch: image i goes by row i of
an (N, k) array of uniform numbers, k the same for all. It depends neither on how many images follow nor on layout,
strides or dtype. Normal noise is drawn in C order; what it depends on stands at the functions.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs, _seeds
from nnfast._seeds import Rng
from nnfast.random import Philox

__all__ = ["random_crop", "random_erasing", "random_flip", "random_noise"]

Direction = Literal["horizontal", "vertical"]
Layout = Literal["NCHW", "NHWC"]

_TRIES = 10


def random_flip(
    x: ArrayLike,
    p: float = 0.5,
    *,
    direction: Direction = "horizontal",
    layout: Layout = "NCHW",
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Mirror each image with probability p.

    Parameters
    ----------
    x : array_like of any numeric dtype, shape (N, C, H, W), or (N, H, W, C) with ``layout="NHWC"``
        A batch of images.
    p : float in [0, 1], default 0.5
        Probability of mirroring an image.
    direction : "horizontal" or "vertical", default "horizontal"
        Horizontally left and right change places, vertically top and bottom.
    layout : "NCHW" or "NHWC", default "NCHW"
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the draws. An int in [0, 2**64) or a SeedSequence gives the same draws at every call; a Generator is
        advanced by one raw draw of its bit generator, which is the seed; None takes fresh entropy.
    out : ndarray of x's dtype and shape, optional
        Takes the result; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape

    Raises
    ------
    TypeError
        If x is not of numbers, p or rng is of another type, or out has another dtype.
    ValueError
        If x does not have four axes, p or rng is out of range, direction or layout is unknown, or out has another
        shape, is read-only or overlaps x without being x. Nothing is written then.

    References
    ----------
    Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.arange(4).reshape(1, 1, 2, 2)
    >>> nf.augmentation.random_flip(x, p=1)
    array([[[[1, 0],
             [3, 2]]]])
    """
    p = _checks.real_in(p, 0, 1, "p")
    _checks.one_of(direction, ("horizontal", "vertical"), "direction")
    x = _images(x, layout)
    y = _output(out, x)
    flipped = _seeds.generator_of(rng).random(len(x)) < p
    # Gathered before anything is written, as y may be x.
    mirrored = np.flip(_planes(x, layout), 3 if direction == "horizontal" else 2)[flipped]
    _copy(x, y)
    _planes(y, layout)[flipped] = mirrored
    return y


def random_crop(
    x: ArrayLike,
    size: int | tuple[int, int],
    *,
    padding: int = 0,
    layout: Layout = "NCHW",
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Cut a window out of each image, at a random place of the image with zeros around it.

    Parameters
    ----------
    x : array_like of any numeric dtype, shape (N, C, H, W), or (N, H, W, C) with ``layout="NHWC"``
        A batch of images.
    size : int or (int, int)
        Height and width of the window; an int is both.
    padding : int, default 0
        Zeros on each of the four sides of an image.
    layout : "NCHW" or "NHWC", default "NCHW"
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the draws, as for random_flip.
    out : ndarray of x's dtype, shape (N, C, height, width) or (N, height, width, C), optional
        Takes the result; shares no memory with x.

    Returns
    -------
    y : ndarray of x's dtype, shape (N, C, height, width) or (N, height, width, C)
        All places at which the window lies inside the padded image are equally likely.

    Raises
    ------
    TypeError
        If x is not of numbers, size, padding or rng is of another type, or out has another dtype.
    ValueError
        If x does not have four axes, size is not positive or larger than the padded images, padding is negative, rng is
        out of range, layout is unknown, or out has another shape, is read-only or overlaps x. Nothing is written then.

    References
    ----------
    Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012; with
    padding, Lee et al., "Deeply-supervised nets", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.ones((2, 3, 32, 32), np.uint8)
    >>> nf.augmentation.random_crop(x, 32, padding=4).shape
    (2, 3, 32, 32)
    >>> nf.augmentation.random_crop(x, (24, 20)).min()
    np.uint8(1)
    """
    height, width = _window(size)
    padding = _checks.integer(padding, "padding")
    if padding < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    x = _images(x, layout)
    planes = _planes(x, layout)
    n, channels, *whole = planes.shape
    high, wide = (length + 2 * padding for length in whole)
    if height > high or width > wide:
        raise ValueError(f"size must fit images of {high} x {wide}, got {height} x {width}")
    inner = (height, width, channels) if layout == "NHWC" else (channels, height, width)
    y = _arrays.output(out, (n, *inner), x.dtype, x)
    # A uniform number below 1 times a whole number, rounded, is still below that number.
    places = _seeds.generator_of(rng).random((n, 2)) * (high - height + 1, wide - width + 1)
    top, left = places.astype(np.intp).T
    if padding:
        planes = np.pad(planes, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(planes, (height, width), axis=(2, 3))
    _planes(y, layout)[...] = windows[np.arange(n), :, top, left]
    return y


def random_noise(
    x: ArrayLike, std: float, *, rng: Rng = None, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Add normal noise of mean 0.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, any shape
        float16 is computed in float32 and rounded once. (Images of integers are to be scaled to floats first.)
    std : float
        Standard deviation of the noise, the same for all elements.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the noise, as for random_flip. The noise of an element follows from the seed and its place in C order,
        whatever the strides of x; float64 has other noise than float32 and float16.
    out : ndarray of x's dtype and shape, optional
        Takes the result; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape

    Raises
    ------
    TypeError
        If x is of another dtype, std or rng is of another type, or out has another dtype.
    ValueError
        If std is negative or not finite, rng is out of range, or out has another shape, is read-only or overlaps x
        without being x. Nothing is written then.

    References
    ----------
    Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.full((16, 3, 32, 32), 0.5, np.float32)
    >>> y = nf.augmentation.random_noise(x, 0.1, rng=0)
    >>> round(float(y.mean()), 2), round(float(y.std()), 2)
    (0.5, 0.1)
    """
    std = _checks.not_negative(std, "std")
    if std == np.inf:
        raise ValueError("std must be finite, got inf")
    x = _arrays.plain(x, "x")
    if x.dtype.kind != "f" or x.dtype.itemsize > 8:
        raise TypeError(
            f"x must be an array of float16, float32 or float64, got dtype {x.dtype}"
            f"{_arrays.advice(x, 'x')}"
        )
    x = _arrays.floating(x, "x", float16=True)
    y = _output(out, x)
    noise = _normals(_seeds.seed_of(rng), x.shape, x.dtype)
    noise *= std
    np.add(x, noise, out=y, casting="same_kind")
    return y


def random_erasing(
    x: ArrayLike,
    p: float = 0.5,
    *,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: float | Sequence[float] | NDArray[Any] | Literal["random"] = 0.0,
    layout: Layout = "NCHW",
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Overwrite a random rectangle of each image with probability p.

    The rectangle's share of the image is uniform in `scale`, the logarithm of its height over its width is uniform
    between those of `ratio`; its sides are rounded to whole pixels, of which a very small one may have none. Where it
    is not smaller than the image in both directions another is drawn, ten times at most; then the image is left as
    it is. All places inside the image are equally likely.

    Parameters
    ----------
    x : array_like of any numeric dtype, shape (N, C, H, W), or (N, H, W, C) with ``layout="NHWC"``
        A batch of images.
    p : float in [0, 1], default 0.5
        Probability of erasing in an image.
    scale : (float, float), default (0.02, 0.33)
        Least and largest share of the image, in [0, 1].
    ratio : (float, float), default (0.3, 3.3)
        Least and largest height over width, positive.
    value : float, sequence of C floats, or "random", default 0.0
        What is written: a number, one for each channel, or standard normal noise of its own for each pixel and channel
        (for images of a floating dtype). Integer images take what they can hold exactly. The noise in an image follows
        from the seed and what was erased of the images before it.
    layout : "NCHW" or "NHWC", default "NCHW"
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the draws, as for random_flip.
    out : ndarray of x's dtype and shape, optional
        Takes the result; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape

    Raises
    ------
    TypeError
        If x is not of numbers, p, scale, ratio, value or rng is of another type, value is "random" for images that are
        not floating, or out has another dtype.
    ValueError
        If x does not have four axes, p, scale, ratio or rng is out of range, value has another number of channels or
        does not fit x's dtype, layout is unknown, or out has another shape, is read-only or overlaps x without being x.
        Nothing is written then.

    References
    ----------
    Zhong et al., "Random erasing data augmentation", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.ones((100, 3, 32, 32), np.float32)
    >>> y = nf.augmentation.random_erasing(x, p=1, scale=(0.25, 0.25), ratio=(1, 1), rng=0)
    >>> (y == 0).sum(axis=(2, 3)).min(), (y == 0).sum(axis=(2, 3)).max()
    (np.int64(256), np.int64(256))
    """
    p = _checks.real_in(p, 0, 1, "p")
    scale, ratio = _ascending(scale, "scale"), _ascending(ratio, "ratio")
    for share in scale:
        _checks.real_in(share, 0, 1, "scale")
    _checks.positive(ratio[0], "ratio")
    x = _images(x, layout)
    _, channels, height, width = _planes(x, layout).shape
    fill = _fill(value, x.dtype, channels)
    y = _output(out, x)
    seed = _seeds.seed_of(rng)
    uniforms = _seeds.generator_of(seed).random((len(x), 3 + 2 * _TRIES))
    erased = _erased(uniforms, (height, width), p, scale, ratio)[:, np.newaxis]
    _copy(x, y)
    planes = _planes(y, layout)
    if fill is None:
        noise = _normals(seed, (np.count_nonzero(erased) * channels,), x.dtype)
        planes[np.broadcast_to(erased, planes.shape)] = noise
    else:
        np.copyto(planes, fill, where=erased)
    return y


# ---- images and results ----


def _images(x: ArrayLike, layout: Layout) -> NDArray[Any]:
    """x as an array of four axes of numbers; checks the layout too."""
    _checks.one_of(layout, ("NCHW", "NHWC"), "layout")
    array = _arrays.plain(x, "x")
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"x must be an array of numbers, got dtype {array.dtype}{_arrays.advice(array, 'x')}"
        )
    if array.ndim != 4:
        raise ValueError(f"x must have shape ({', '.join(layout)}), got {array.shape}")
    return array


def _planes(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """The images as a view of shape (N, C, H, W), in whatever layout they are."""
    return np.moveaxis(array, 3, 1) if layout == "NHWC" else array


def _output(out: NDArray[Any] | None, x: NDArray[Any]) -> NDArray[Any]:
    """`out`, checked, which may be x, or a new array."""
    y = _arrays.output_like(out, x)
    if not _same_elements(x, y) and np.may_share_memory(x, y):
        raise ValueError("out must be x itself or share no memory with it, but overlaps it")
    return y


def _same_elements(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of equal shape and dtype are the same memory, element by element."""
    addresses = [array.__array_interface__["data"][0] for array in (a, b)]
    return addresses[0] == addresses[1] and a.strides == b.strides


def _copy(x: NDArray[Any], y: NDArray[Any]) -> None:
    if not _same_elements(x, y):
        y[...] = x


# ---- draws ----


def _normals(seed: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Standard normal numbers in C order: in float32 for arrays of up to four bytes an element, else in float64."""
    return Philox(seed).normal(shape, dtype=np.float32 if dtype.itemsize <= 4 else np.float64)


def _erased(
    uniforms: NDArray[np.float64],
    size: tuple[int, int],
    p: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> NDArray[np.bool_]:
    """Which pixels of each image are erased, shape (N, H, W)."""
    height, width = size
    chance, shares, ratios, down, right = np.split(
        uniforms, np.cumsum([1, _TRIES, _TRIES, 1]), axis=1
    )
    side = np.sqrt(height * width * _between(shares, *scale))
    # The ratio's root, which overflows nowhere.
    root = np.exp(_between(ratios, *np.log(ratio)) / 2)
    heights, widths = np.rint(side * root), np.rint(side / root)
    fits = (heights < height) & (widths < width)
    first = fits.argmax(axis=1, keepdims=True)
    erases = (chance < p) & fits.any(axis=1, keepdims=True)
    h, w = (
        np.where(erases, np.take_along_axis(sides, first, axis=1), 0) for sides in (heights, widths)
    )
    return _span(down, h, height)[:, :, np.newaxis] & _span(right, w, width)[:, np.newaxis, :]


def _between(uniform: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return low + uniform * (high - low)


def _span(
    uniform: NDArray[np.float64], length: NDArray[np.float64], size: int
) -> NDArray[np.bool_]:
    """Which of `size` positions lie in a span of that length at a random place; rows of shape (N, 1) to (N, size)."""
    start = np.floor(uniform * (size - length + 1))
    positions = np.arange(size)
    return (positions >= start) & (positions < start + length)


# ---- other arguments ----


def _pair(value: Any, name: str) -> tuple[Any, Any]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a pair of numbers, got {value!r}") from None
    return first, second


def _window(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, both positive."""
    pair = _pair(size, "size") if np.ndim(size) else (size, size)
    height, width = (_checks.integer(side, "size") for side in pair)
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, got {height} x {width}")
    return height, width


def _ascending(value: Any, name: str) -> tuple[float, float]:
    low, high = (_checks.real(number, name) for number in _pair(value, name))
    if not -np.inf < low <= high < np.inf:
        raise ValueError(f"{name} must be two finite numbers in ascending order, got {value!r}")
    return low, high


def _fill(value: Any, dtype: np.dtype[Any], channels: int) -> NDArray[Any] | None:
    """The fill value, in the images' dtype and of shape (C or 1, 1, 1); None for random values."""
    if isinstance(value, str) and value == "random":
        if dtype.kind != "f":
            raise TypeError(f'value "random" needs x of a floating dtype, got {dtype}')
        return None
    numbers = _arrays.plain(value, "value")
    if numbers.dtype.kind not in "biuf":
        raise TypeError(
            f'value must be a number, one a channel or "random", got {value!r}'
            f"{_arrays.advice(numbers, 'value')}"
        )
    if numbers.shape not in ((), (channels,)):
        raise ValueError(
            f"value must be a number or {channels}, one a channel, got shape {numbers.shape}"
        )
    with np.errstate(all="ignore"):
        fill = numbers.astype(dtype)
    # Floats are rounded, but do not become infinite.
    held = np.isfinite(fill) == np.isfinite(numbers) if dtype.kind in "fc" else fill == numbers
    if not held.all():
        raise ValueError(f"value must be held by dtype {dtype}, got {value!r}")
    return fill.reshape(-1, 1, 1)


_docs.finish(
    __name__,
    {
        "layout": "The order of the axes of x.",
        "y": "A new array, or out.",
        "x": "The array.",
    },
)
