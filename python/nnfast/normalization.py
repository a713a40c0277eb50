"""Batch normalization, its statistics over pieces of a batch, and its folding into a layer's weights."""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _moments
from nnfast._load import _core

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_stats",
    "fold_batch_norm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "merge_stats",
]


Convention = Literal["torch", "keras", "cs231n"]
Momentum = float | EllipsisType | None
"""A number, None for the average over all batches, or ... for the convention's default."""


# momentum, eps and running_var_correction.
_CONVENTIONS: dict[str, tuple[float, float, int]] = {
    "torch": (0.1, 1e-5, 1),
    "keras": (0.99, 1e-3, 0),
    "cs231n": (0.9, 1e-5, 0),
}


def settings_of(
    convention: Convention, momentum: Momentum, eps: float | None, correction: int | None
) -> tuple[float | None, float, int]:
    """momentum, eps and running_var_correction: those given, checked, and the convention's for the others."""
    if type(convention) is not str or convention not in _CONVENTIONS:
        _checks.one_of(convention, _CONVENTIONS, "convention")
    defaults = _CONVENTIONS[convention]
    if momentum is ...:
        momentum = defaults[0]
    elif momentum is not None:
        momentum = _checks.real_in(momentum, 0, 1, "momentum")
    eps = defaults[1] if eps is None else _checks.real(eps, "eps")
    if correction is None:
        correction = defaults[2]
    elif correction not in (0, 1):
        raise ValueError(f"running_var_correction must be 0 or 1, got {correction!r}")
    return momentum, eps, int(correction)


def rate_of(momentum: float | None, convention: Convention) -> float | None:
    """The weight of the new value in the running statistics; None where all batches weigh the same."""
    return momentum if convention == "torch" or momentum is None else 1 - momentum


def is_vector(array: NDArray[Any], n: int) -> bool:
    """Whether it has one value for each of n channels: shape (n,), with any axes of length 1 beside it."""
    return array.ndim > 0 and array.size == max(array.shape) == n


def is_training(training: bool | None, running_mean: Any, running_var: Any) -> bool:
    """Whether it is training: forgotten beside running statistics, it would be inference by their first values."""
    if training is None and not (running_mean is None and running_var is None):
        raise TypeError(
            "training must be given with running_mean and running_var: True normalizes by the batch and updates them, "
            "False normalizes by them"
        )
    return bool(training)


class BatchNormSaved(NamedTuple):
    """What batch_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The mean that was subtracted, shape (C,)."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, shape (C,)."""
    axis: int
    training: bool
    mask: NDArray[np.uint8] | None = None
    """One bit per element, 1 where the activation was positive, in rows as the kernels read them."""
    add: bool = False
    """Whether something was added before the activation."""


class BatchNormStats:
    """Statistics of each channel of a batch, or of a piece of one."""

    count: int
    """Values per channel."""
    mean: NDArray[np.float64]
    """Shape (C,)."""
    m2: NDArray[np.float64]
    """The sum of squared differences from the mean, shape (C,)."""
    mean_low: NDArray[np.float64] | float = 0.0
    """What rounding to float64 took from the mean, shape (C,); 0 where it is not known."""
    m2_low: NDArray[np.float64] | float = 0.0
    """What rounding to float64 took from m2, shape (C,); 0 where it is not known."""

    # No dataclass: to load and make one takes a tenth of the import of nnfast.
    def __init__(
        self,
        count: int,
        mean: NDArray[np.float64],
        m2: NDArray[np.float64],
        mean_low: NDArray[np.float64] | float = 0.0,
        m2_low: NDArray[np.float64] | float = 0.0,
    ) -> None:
        vars(self).update(count=count, mean=mean, m2=m2, mean_low=mean_low, m2_low=m2_low)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to {name!r} of BatchNormStats")

    def __repr__(self) -> str:
        return f"BatchNormStats(count={self.count!r}, mean={self.mean!r}, m2={self.m2!r})"

    @property
    def _channels(self) -> list[NDArray[np.float64]]:
        """The arrays of one value a channel, in the order of the constructor."""
        return np.broadcast_arrays(self.mean, self.m2, self.mean_low, self.m2_low)  # type: ignore[return-value]

    @property
    def var(self) -> NDArray[np.float64]:
        """The biased variance, shape (C,)."""
        return self.m2 / self.count


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    running_mean: NDArray[Any] | None = None,
    running_var: NDArray[Any] | None = None,
    *,
    training: bool | None = None,
    momentum: Momentum = ...,
    eps: float | None = None,
    axis: int = 1,
    activation: str | None = None,
    add: ArrayLike | None = None,
    running_var_correction: int | None = None,
    num_batches_tracked: NDArray[np.integer] | None = None,
    convention: Convention = "torch",
    reuse: BatchNormSaved | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], BatchNormSaved]:
    """Batch normalization: ``gamma * (x - mean) / sqrt(var + eps) + beta`` for every channel.

    In training, mean and the biased variance are those of the batch, and the running statistics move towards them; in
    inference they are the running statistics.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C), (N, C, L), (N, C, H, W), (N, C, D, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma, beta : array_like, shape (C,) or (1, C), optional
        Scale and shift, both of one shape; ones and zeros if None. It may also be one that broadcasts to x, such as
        (1, C, 1, 1), or (C, 1) where the samples are the columns of x and axis is 0.
    running_mean, running_var : ndarray of x's dtype (float32 for x of float16), shape as of gamma, optional
        Updated in place in training (optional there); read in inference, where they are required and may be any
        array_like.
    training : bool, optional
        False if left out; must be given where running statistics are.
    momentum : float in [0, 1] or None, optional
        Weight of the *new* value, as in PyTorch: ``running = (1 - momentum) * running + momentum * batch``; for another
        convention that of the old value: ``running = momentum * running + (1 - momentum) * batch``. None: the running
        statistics are the averages over all batches so far, which `num_batches_tracked` counts.
    eps : float, optional
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels; -1 for channels last.
    activation : "relu", optional
        Applied to y in the same pass; a mask of one bit per element is saved for the backward pass.
    add : array_like of x's shape, optional
        Added before the activation, as in a residual block.
    running_var_correction : int, 0 or 1, optional
        running_var takes the variance over N - 1 (PyTorch) or, with 0, over N (Keras, CS231n, Flax, ONNX).
    num_batches_tracked : ndarray of integers, shape (), optional
        Incremented in training; required where momentum is None.
    convention : "torch", "keras" or "cs231n", default "torch"
        What momentum means, and what it, eps and running_var_correction default to: 0.1, 1e-5 and 1 as in PyTorch,
        0.99, 1e-3 and 0 as in Keras, or 0.9, 1e-5 and 0 as in CS231n.
    reuse : BatchNormSaved, optional
        What an earlier call saved and is no longer needed: this call saves into its memory where that is large enough.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x, and ``out=add``.

    Returns
    -------
    y : ndarray of x's dtype and shape
        float32 is within 4 ULP of the larger of abs(y) and abs(beta). A constant channel gives exactly beta. Statistics
        are taken in float64, in an order that does not depend on threads, strides or the place of the axis.
    saved : BatchNormSaved
        For batch_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or one that is written has the wrong dtype, or running statistics are given
        without training.
    ValueError
        If a shape does not match, x has fewer than two values per channel in training, eps is not positive, momentum is
        not in [0, 1], running_var is negative or NaN, activation or convention is unknown, or an array that is written
        is read-only or overlaps another. Nothing is written then.

    See Also
    --------
    batch_norm_backward : Its gradient.
    nnfast.nn.BatchNorm : The layer.
    torch.nn.functional.batch_norm : PyTorch's.
    batch_norm_stats, merge_stats, fold_batch_norm

    References
    ----------
    Ioffe, Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> y, saved = nf.batch_norm(x, training=True, eps=1e-12)
    >>> y.round(6), saved.mean
    (array([[-1.,  0.],
           [ 1.,  0.]]), array([2., 5.]))
    >>> images = np.random.default_rng(0).normal(3, 2, (8, 4, 5, 5))
    >>> y, saved = nf.batch_norm(images, training=True, activation="relu")
    >>> y.shape, y.min()
    ((8, 4, 5, 5), np.float64(0.0))

    Running statistics as in CS231n, momentum times the old value and the rest of the batch's:

    >>> mean, var = np.zeros(2), np.zeros(2)
    >>> y, saved = nf.batch_norm(x, None, None, mean, var, training=True, momentum=0.75, convention="cs231n")
    >>> mean, var
    (array([0.5 , 1.25]), array([0.25, 0.  ]))
    """
    # Arguments are asked about only where they are not the default: the checks are most of a call on a small array.
    if training is None:
        training = is_training(training, running_mean, running_var)
    if type(axis) is not int:
        axis = _checks.integer(axis, "axis")
    if activation is not None and activation != "relu":
        raise ValueError(f'activation must be None or "relu", got {activation!r}')
    rate: float | None
    if (
        momentum is ...
        and eps is None
        and running_var_correction is None
        and type(convention) is str
        and convention == "torch"
    ):
        rate, eps, correction = _CONVENTIONS["torch"]
    else:
        momentum, eps, correction = settings_of(convention, momentum, eps, running_var_correction)
        rate = rate_of(momentum, convention)
    mean = inv_std = mask = None  # whose memory is used again
    if reuse is not None:
        _require_saved(reuse, "reuse")
        mean, inv_std, mask = reuse.mean, reuse.inv_std, reuse.mask
    counter = _batch_counter(num_batches_tracked) if num_batches_tracked is not None else None
    if rate is None:
        if training and running_mean is not None and counter is None:
            raise ValueError("num_batches_tracked must be given when momentum is None")
        rate = 1.0 / (int(counter) + 1) if counter is not None else 0.0
    result = _core.batch_norm(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        training,
        rate,
        eps,
        axis,
        correction,
        activation is not None,
        add,
        out,
        mean,
        inv_std,
        mask,
        BatchNormSaved,
    )
    if training and counter is not None:
        counter += 1
    return result


def _require_saved(value: object, name: str) -> None:
    if not isinstance(value, BatchNormSaved):
        raise TypeError(f"{name} must be what batch_norm returned, got {type(value).__name__}")


def _batch_counter(counter: Any) -> NDArray[np.integer]:
    _arrays.check_unmasked(counter, "num_batches_tracked")
    if not isinstance(counter, np.ndarray) or counter.dtype.kind not in "iu" or counter.shape != ():
        raise TypeError("num_batches_tracked must be an ndarray of integers of shape ()")
    if not counter.flags.writeable:
        raise ValueError("num_batches_tracked must be writeable, but is read-only")
    if counter < 0:
        raise ValueError(f"num_batches_tracked must not be negative, got {counter}")
    return counter


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: BatchNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], ...]:
    """Gradients of batch_norm with respect to its input, scale and shift, and to what was added.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : BatchNormSaved
        From the forward pass; its mode decides whether the statistics depend on x (training) or not (inference).
    out : tuple of ndarrays or None, optional
        Take dx, dgamma, dbeta and, where something was added, dadd; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16) and gamma's shape, or (C,) without gamma
        Gradients of the loss with respect to gamma and beta.
    dadd : ndarray of x's shape
        Only where `add` was given; dy itself where there was no activation.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    batch_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0], [3.0], [5.0]])
    >>> y, saved = nf.batch_norm(x, training=True)
    >>> dx, dgamma, dbeta = nf.batch_norm_backward(np.ones((3, 1)), x, None, saved)
    >>> abs(dx).max() < 1e-15, dbeta
    (np.True_, array([3.]))
    """
    _require_saved(saved, "saved")
    mean, inv_std, axis, training, mask, add = saved
    dx = dgamma = dbeta = dadd = None
    if out is not None:
        names = ("dx", "dgamma", "dbeta", "dadd")
        dx, dgamma, dbeta, *rest = _checks.outputs(out, names if add else names[:3])
        dadd = rest[0] if rest else None
    return _core.batch_norm_backward(
        dy, x, gamma, mean, inv_std, axis, training, mask, add, dx, dgamma, dbeta, dadd
    )


def batch_norm_stats(x: ArrayLike, *, axis: int = 1) -> BatchNormStats:
    """Count, mean and sum of squared differences from the mean, of every channel.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, at least two axes
        A batch, or a piece of one.
    axis : int, default 1
        The axis of the channels.

    Returns
    -------
    BatchNormStats
        In float64; m2 is infinite, with NumPy's overflow warning, where float64 cannot hold it. Of a float64 x the
        variance is right to 2 ULP, also of merged pieces: they keep what rounding took from the mean.

    Raises
    ------
    TypeError
        If x is not of real numbers.
    ValueError
        If x has fewer than two axes, or axis is none of them.

    See Also
    --------
    batch_norm, merge_stats, fold_batch_norm

    Examples
    --------
    Pieces of a batch, perhaps on several machines, are normalized as the whole is:

    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (64, 8))
    >>> stats = nf.merge_stats(*(nf.batch_norm_stats(piece) for piece in (x[:40], x[40:])))
    >>> y, _ = nf.batch_norm(x[:40], None, None, stats.mean, stats.var, training=False)
    >>> np.allclose(y, nf.batch_norm(x, training=True)[0][:40])
    True
    """
    return BatchNormStats(*_core.batch_norm_stats(x, _checks.integer(axis, "axis")))


def merge_stats(*pieces: BatchNormStats) -> BatchNormStats:
    """Merge the statistics of pieces into those of the whole.

    Parameters
    ----------
    *pieces : BatchNormStats
        From batch_norm_stats, or from this function; of equally many channels. Their order affects rounding alone.

    Returns
    -------
    BatchNormStats
        Those of all values together.

    Raises
    ------
    TypeError
        If a piece is not a BatchNormStats.
    ValueError
        If there is no piece, or the channels differ.

    See Also
    --------
    batch_norm, batch_norm_stats, fold_batch_norm

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> a, b = np.array([[1.0], [2.0]]), np.array([[6.0]])
    >>> nf.merge_stats(nf.batch_norm_stats(a), nf.batch_norm_stats(b))
    BatchNormStats(count=3, mean=array([3.]), m2=array([14.]))
    """
    if not pieces:
        raise ValueError("pieces must hold at least one BatchNormStats, got none")
    for piece in pieces:
        if not isinstance(piece, BatchNormStats):
            raise TypeError(f"pieces must be BatchNormStats, got {type(piece).__name__}")
        if piece.mean.shape != pieces[0].mean.shape:
            raise ValueError(
                f"pieces must have equally many channels, got {pieces[0].mean.size} and {piece.mean.size}"
            )
    count = sum(piece.count for piece in pieces)
    if count == 0:
        return pieces[0]
    mean, m2 = _moments.merged(
        [float(piece.count) for piece in pieces],
        [(piece.mean, piece.mean_low) for piece in pieces],
        [(piece.m2, piece.m2_low) for piece in pieces],
    )
    return BatchNormStats(count, mean[0], m2[0], mean[1], m2[1])


def fold_batch_norm(
    weight: ArrayLike,
    bias: ArrayLike | None,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float | None = None,
    axis: int = 0,
    convention: Convention = "torch",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fold the batch normalization after a layer into the layer's weight and bias, for inference.

    Parameters
    ----------
    weight : array_like of float32 or float64
        Of the layer: (out, in, kh, kw) of a convolution, or with ``axis=1`` the (in, out) of ``x @ weight``.
    bias : array_like, shape (out,), or None
        Of the layer; None is zeros.
    gamma, beta : array_like, shape (out,), or None
        Scale and shift; ones and zeros if None. As for batch_norm, a shape may have axes of length 1, too, such as
        (1, out), (out, 1) or (1, out, 1, 1).
    mean, var : array_like, shape as of gamma
        The running statistics.
    eps : float, optional
        As the batch normalization has it.
    axis : int, default 0
        The axis of the outputs in weight.
    convention : "torch", "keras" or "cs231n", default "torch"
        What eps defaults to, as in batch_norm: 1e-5, 1e-3 or 1e-5.

    Returns
    -------
    weight, bias : ndarray of weight's dtype
        Computed in float64, rounded once.

    Raises
    ------
    TypeError
        If an array is not of real numbers.
    ValueError
        If a shape does not match, eps is not positive, var is negative or NaN, or convention is unknown.

    See Also
    --------
    batch_norm, batch_norm_stats, merge_stats

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 2))
    >>> gamma, beta, mean, var = rng.uniform(1, 2, (4, 2))
    >>> w1, b1 = nf.fold_batch_norm(w, None, gamma, beta, mean, var, axis=1)
    >>> np.allclose(x @ w1 + b1, nf.batch_norm(x @ w, gamma, beta, mean, var, training=False)[0])
    True
    """
    weight = _arrays.floating(weight, "weight")
    axis = _arrays.axis_of(axis, weight, "weight")
    outputs = weight.shape[axis]
    _, eps, _ = settings_of(convention, None, eps, None)
    if not 0 < eps < np.inf:
        raise ValueError(f"eps must be positive, got {eps}")

    def vector(value: ArrayLike | None, name: str, missing: float) -> NDArray[np.float64]:
        if value is None:
            return np.full(outputs, missing)
        array = _arrays.floating(value, name).astype(np.float64)
        if not is_vector(array, outputs):
            raise ValueError(f"{name} must have shape ({outputs},), got {array.shape}")
        return array.reshape(outputs)

    var = vector(var, "var", 1)
    if not (var >= 0).all():
        raise ValueError("var must not be negative or NaN")
    scale = vector(gamma, "gamma", 1) / np.sqrt(var + eps)
    shape = [1] * weight.ndim
    shape[axis] = outputs
    shift = (vector(bias, "bias", 0) - vector(mean, "mean", 0)) * scale + vector(beta, "beta", 0)
    return (weight * scale.reshape(shape)).astype(weight.dtype), shift.astype(weight.dtype)


class GroupNormSaved(NamedTuple):
    """What group_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The means that were subtracted, shape (N, num_groups)."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, shape (N, num_groups)."""
    axis: int


def group_norm(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], GroupNormSaved]:
    """Group normalization: ``gamma * (x - mean) / sqrt(var + eps) + beta`` for groups of channels of every sample.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C), (N, C, L), (N, C, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    num_groups : int
        Divides C; neighbouring channels are a group.
    gamma, beta : array_like, shape (C,) or (1, C), optional
        Scale and shift, both of one shape; ones and zeros if None. With axis=1 it may also be one that broadcasts to x,
        such as (1, C, 1, 1).
    eps : float, default 1e-5
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels, any but the first; fastest where it comes before the axes of the image.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x.

    Returns
    -------
    y : ndarray of x's dtype and shape
        Statistics are taken in float64, in an order that does not depend on threads or strides.
    saved : GroupNormSaved
        For group_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype than x.
    ValueError
        If a shape does not match, num_groups does not divide C, eps is not positive, or out is read-only or overlaps x.
        Nothing is written then.

    See Also
    --------
    group_norm_backward : Its gradient.
    nnfast.nn.GroupNorm : The layer.
    torch.nn.functional.group_norm : PyTorch's.
    instance_norm, layer_norm

    References
    ----------
    Wu, He, "Group normalization", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (2, 6, 4, 4))
    >>> y, saved = nf.group_norm(x, 3)
    >>> y.shape, bool(abs(y.reshape(2, 3, -1).mean(axis=-1)).max() < 1e-12)
    ((2, 6, 4, 4), True)
    """
    array, axis = _channels_second(x, axis, "x")
    return _by_groups(array, _checks.integer(num_groups, "num_groups"), gamma, beta, eps, axis, out)


def _by_groups(
    array: NDArray[Any],
    groups: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], GroupNormSaved]:
    """group_norm of an array whose channels are its second axis, and the given one of `out`."""
    y, saved = _core.group_norm(
        array,
        groups,
        gamma,
        beta,
        eps if type(eps) is float else _checks.real(eps, "eps"),
        axis,
        None if out is None else _channels_second(out, axis, "out")[0],
        GroupNormSaved,
    )
    return _as_given(y, out, axis), saved


def group_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: GroupNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of group_norm, and of instance_norm, with respect to the input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : GroupNormSaved
        From the forward pass.
    out : tuple of three ndarrays or None, optional
        Take dx, dgamma and dbeta; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16) and gamma's shape, or (C,) without gamma
        Gradients of the loss with respect to gamma and beta.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    group_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (2, 6, 5))
    >>> y, saved = nf.group_norm(x, 3)
    >>> dx, dgamma, dbeta = nf.group_norm_backward(np.ones_like(x), x, None, saved)
    >>> bool(abs(dx).max() < 1e-14), dbeta
    (True, array([10., 10., 10., 10., 10., 10.]))
    """
    if not isinstance(saved, GroupNormSaved):
        raise TypeError(f"saved must be what group_norm returned, got {type(saved).__name__}")
    shape = np.shape(saved.mean)
    if len(shape) != 2:
        raise ValueError(f"saved.mean must have shape (N, groups), got {shape}")
    dx, dgamma, dbeta = _checks.outputs(out, ("dx", "dgamma", "dbeta"))
    moved, given_dgamma, given_dbeta = _core.group_norm_backward(
        _channels_second(dy, saved.axis, "dy")[0],
        _channels_second(x, saved.axis, "x")[0],
        gamma,
        saved.mean,
        saved.inv_std,
        shape[1],
        None if dx is None else _channels_second(dx, saved.axis, "out[0]")[0],
        dgamma,
        dbeta,
    )
    return _as_given(moved, dx, saved.axis), given_dgamma, given_dbeta


def instance_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    running_mean: NDArray[Any] | None = None,
    running_var: NDArray[Any] | None = None,
    training: bool | None = None,
    momentum: float | None = 0.1,
    num_batches_tracked: NDArray[np.integer] | None = None,
    eps: float = 1e-5,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], GroupNormSaved | BatchNormSaved]:
    """Instance normalization: statistics of each channel of each sample; group_norm with as many groups as channels.

    With running statistics, those are updated in training and taken in place of the sample's own in inference.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, L), (N, C, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma, beta : array_like, optional
        Scale and shift, as of group_norm; ones and zeros if None.
    running_mean, running_var : ndarray of x's dtype (float32 for x of float16), shape (C,), optional
        Both or none. In training they are updated in place by the means, over the samples, of their means and unbiased
        variances; in inference they are read, and may be any array_like.
    training : bool, optional
        Must be given where running statistics are. Without them it makes no difference.
    momentum : float in [0, 1] or None, default 0.1
        Weight of the new value, as in PyTorch: ``running = (1 - momentum) * running + momentum * batch``. None: the
        running statistics are the averages over all batches so far, which `num_batches_tracked` counts.
    num_batches_tracked : ndarray of integers, shape (), optional
        Incremented in training; required where momentum is None.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels, any but the first.
    out : ndarray of x's dtype and shape, optional
        Takes y.

    Returns
    -------
    y : ndarray of x's dtype and shape
        The bits of group_norm with a group for each channel.
    saved : GroupNormSaved, or BatchNormSaved in inference with running statistics
        For instance_norm_backward.

    Raises
    ------
    TypeError
        As group_norm; if running statistics are given without training, or have another dtype.
    ValueError
        As group_norm; if one of the running statistics is missing, does not match, is read-only or overlaps another
        array, momentum is out of range, or x has less than two values a channel in training with running statistics.
        Nothing is written then.

    See Also
    --------
    instance_norm_backward : Its gradient.
    nnfast.nn.InstanceNorm : The layer.
    torch.nn.functional.instance_norm : PyTorch's.
    group_norm, layer_norm

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016. Running statistics are those of PyTorch's
    ``instance_norm``, whose ``use_input_stats`` is training.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[[1.0, 3.0], [5.0, 9.0]]])
    >>> y, saved = nf.instance_norm(x, eps=1e-12)
    >>> y.round(6), saved.mean
    (array([[[-1.,  1.],
            [-1.,  1.]]]), array([[2., 7.]]))
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> y, saved = nf.instance_norm(x, running_mean=mean, running_var=var, training=True)
    >>> mean, var
    (array([0.2, 0.7]), array([1.1, 1.7]))
    """
    moved, axis = _channels_second(x, axis, "x")
    groups = max(1, moved.shape[1])
    if momentum is not None and not (type(momentum) is float and 0 <= momentum <= 1):
        momentum = _checks.real_in(momentum, 0, 1, "momentum")
    if running_mean is None and running_var is None:
        return _by_groups(moved, groups, gamma, beta, eps, axis, out)
    array = _arrays.plain(x, "x")
    if running_mean is None or running_var is None:
        missing = "running_mean" if running_mean is None else "running_var"
        raise ValueError(f"{missing} must be given where the other running statistic is")
    if not is_training(training, running_mean, running_var):
        return batch_norm(
            array,
            gamma,
            beta,
            running_mean,
            running_var,
            training=False,
            eps=eps,
            axis=axis,
            out=out,
        )
    array = _arrays.floating(array, "x", float16=True)
    running = {"running_mean": running_mean, "running_var": running_var}
    for name, value in running.items():
        _check_running(value, name, array, axis, out)
    if np.may_share_memory(running_mean, running_var):
        raise ValueError("running_mean and running_var must not share memory")
    rate, counter = _rate_and_counter(momentum, num_batches_tracked)
    y, saved = group_norm(array, groups, gamma, beta, eps=eps, axis=axis, out=out)
    if array.size:
        values = array.size // (len(array) * groups)
        # What rounding makes of it is nothing beside eps.
        var = np.maximum(1 / saved.inv_std**2 - eps, 0) * (values / (values - 1))
        for value, of_batch in ((running_mean, saved.mean), (running_var, var)):
            moved = (1 - rate) * value.astype(np.float64) + rate * of_batch.mean(axis=0).reshape(
                value.shape
            )
            value[...] = moved
    if counter is not None:
        counter += 1
    return y, saved


def _check_running(
    value: Any, name: str, x: NDArray[Any], axis: int, out: NDArray[Any] | None
) -> None:
    """Refuse a running statistic that cannot be updated by the instances of x."""
    _arrays.check_floats(value, name)
    dtype = _arrays.parameter_dtype(x.dtype)
    if value.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {value.dtype}")
    channels = x.shape[axis]
    if not is_vector(value, channels):
        raise ValueError(f"{name} must have shape ({channels},), got {value.shape}")
    _arrays.check_writeable(value, name)
    for other, of in ((x, "x"), (out, "out")):
        if other is not None and np.may_share_memory(value, other):
            raise ValueError(f"{name} and {of} must not share memory")
    if x.size < 2 * len(x) * channels:
        raise ValueError(
            f"x must have two values a channel or more where running_var is updated, got {x.shape}"
        )


def _rate_and_counter(
    momentum: float | None, num_batches_tracked: Any
) -> tuple[float, NDArray[np.integer] | None]:
    """The weight of the new value, and the counter of batches if there is one."""
    counter = None if num_batches_tracked is None else _batch_counter(num_batches_tracked)
    if momentum is not None:
        return momentum, counter
    if counter is None:
        raise ValueError("num_batches_tracked must be given when momentum is None")
    return 1.0 / (int(counter) + 1), counter


def instance_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: GroupNormSaved | BatchNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of instance_norm with respect to its input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : GroupNormSaved or BatchNormSaved
        From the forward pass; by running statistics, which do not depend on x, dx is ``gamma * dy / sqrt(var + eps)``.
    out : tuple of three ndarrays or None, optional
        Take dx, dgamma and dbeta; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16) and gamma's shape, or (C,) without gamma
        Gradients of the loss with respect to gamma and beta.

    Raises
    ------
    TypeError, ValueError
        As group_norm_backward.

    See Also
    --------
    instance_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[[1.0, 3.0], [5.0, 9.0]]])
    >>> y, saved = nf.instance_norm(x)
    >>> nf.instance_norm_backward(np.ones_like(x), x, None, saved)[2]
    array([2., 2.])
    """
    if isinstance(saved, BatchNormSaved):
        dx, dgamma, dbeta = batch_norm_backward(dy, x, gamma, saved, out=out)
        return dx, dgamma, dbeta
    return group_norm_backward(dy, x, gamma, saved, out=out)


def _channels_second(value: Any, axis: int, name: str) -> tuple[NDArray[Any], int]:
    """A view whose second axis is that of the channels, and the number of the axis they have in `value`."""
    array = _arrays.plain(value, name)
    if type(axis) is int and axis == 1 < array.ndim:  # as most are
        return array, axis
    axis = _arrays.axis_of(axis, array, name)
    if axis == 0:
        raise ValueError("axis must not be the first, which is the samples'")
    return (array if axis == 1 else np.moveaxis(array, axis, 1)), axis


def _as_given(moved: NDArray[Any], out: NDArray[Any] | None, axis: int) -> NDArray[Any]:
    if out is not None:
        return out
    return moved if axis == 1 else np.moveaxis(moved, 1, axis)
