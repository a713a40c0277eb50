"""Layers without a matrix product: BatchNorm, Dropout, StochasticDepth, Flatten."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import math
from collections.abc import Iterator
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nnfast import _checks
from nnfast._load import _core
from nnfast._masks import AnyMask
from nnfast._seeds import Rng
from nnfast.dropout import Mask, Mode, dropout, scale_of
from nnfast.nn.layer import (
    Array,
    Buffer,
    KernelLayer,
    Layer,
    Probability,
    RandomLayer,
    Shape,
    batch_of,
)
from nnfast.nn.stages import stage_of
from nnfast.normalization import (
    BatchNormSaved,
    BatchNormStats,
    batch_norm,
    batch_norm_backward,
)
from nnfast.normalization.running import Convention, Momentum, rate_of, settings_of
from nnfast.structured_dropout import stochastic_depth, stochastic_depth_backward


class BatchNorm(KernelLayer):
    """Batch normalization with learned scale and shift: ``y = gamma * (x - mean) / sqrt(var + eps) + beta``.

    In training mean and variance are those of the batch, otherwise the running ones.

    Parameters
    ----------
    n : int
        Channels.
    momentum : float in [0, 1] or None, optional
        Weight of the new value in the running statistics, as in PyTorch, or of the old one for another convention;
        None: they are averages over all batches.
    eps : float, optional
    axis : int, default 1
        The axis of the channels; -1 for channels last.
    running_var_correction : int, 0 or 1, optional
        As of nnfast.batch_norm.
    convention : "torch", "keras" or "cs231n", default "torch"
        What momentum means, and what is taken where it, eps or running_var_correction is not given: as of
        nnfast.batch_norm.
    dtype : float32 or float64, optional
        That of the network if it is given one, else float32.

    Attributes
    ----------
    gamma, beta : ndarray, shape (n,)
        Learned; they begin with ones and zeros.
    running_mean, running_var : ndarray, shape (n,)
        They begin with zeros and ones.
    num_batches_tracked : ndarray of int64, shape (), or None
        Batches seen in training, where momentum is None. All are written in place, ``layer.gamma[...] = g`` or
        ``layer.gamma = g``.

    Raises
    ------
    TypeError
        If n is no int, or dtype another.
    ValueError
        If a number is out of range; from forward, if x has not n channels, or has one value for each in training.

    References
    ----------
    Ioffe, Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.BatchNorm(2)
    >>> y = layer.forward(np.array([[1.0, 5.0], [3.0, 5.0]]), training=True)
    >>> y.round(3), layer.running_mean
    (array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32), array([0.2, 0.5], dtype=float32))
    """

    convention: Convention = "torch"
    _saved: BatchNormSaved | None = None
    _largest: BatchNormSaved | None = None
    """The saved statistics of the largest batch, whose memory is reused."""

    def __init__(
        self,
        n: int,
        *,
        momentum: Momentum = ...,
        eps: float | None = None,
        axis: int = 1,
        running_var_correction: int | None = None,
        convention: Convention = "torch",
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(dtype, learns=True)
        self.n = _checks.integer_from(n, 1, "n")
        self.axis = _checks.integer(axis, "axis")
        found = settings_of(convention, momentum, eps, running_var_correction)
        self.momentum, self.eps, self.running_var_correction = found
        _checks.positive(self.eps, "eps")
        self.convention = convention
        zeros, ones = np.zeros(self.n, self._dtype), np.ones(self.n, self._dtype)
        self._add_params(gamma=ones.copy(), beta=zeros.copy())
        self._own_statistics = {"running_mean": zeros, "running_var": ones}
        if self.momentum is None:
            self._own_statistics["num_batches_tracked"] = np.zeros((), np.int64)
        self._x = ones
        self._largest_size = 0

    @property
    def gamma(self) -> Array:
        """The scale, shape (n,)."""
        return self._own_params["gamma"]

    @gamma.setter
    def gamma(self, value: ArrayLike) -> None:
        self._write("gamma", value)

    @property
    def beta(self) -> Array:
        """The shift, shape (n,)."""
        return self._own_params["beta"]

    @beta.setter
    def beta(self, value: ArrayLike) -> None:
        self._write("beta", value)

    @property
    def running_mean(self) -> Array:
        """The mean used in inference, shape (n,)."""
        return self._own_statistics["running_mean"]

    @running_mean.setter
    def running_mean(self, value: ArrayLike) -> None:
        self._write("running_mean", value)

    @property
    def running_var(self) -> Array:
        """The variance used in inference, shape (n,)."""
        return self._own_statistics["running_var"]

    @running_var.setter
    def running_var(self, value: ArrayLike) -> None:
        self._write("running_var", value)

    @property
    def num_batches_tracked(self) -> Array | None:
        """The number of batches seen in training, where momentum is None."""
        return self._own_statistics.get("num_batches_tracked")

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: ArrayLike | None) -> None:
        if self.num_batches_tracked is None:
            if value is not None:
                raise ValueError(
                    f"num_batches_tracked must be None where momentum is a number, got {value!r}"
                )
        else:
            self._write("num_batches_tracked", value)  # type: ignore[arg-type]

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        axes = len(input_shape)
        if axes < 2 or not -axes <= self.axis < axes or input_shape[self.axis] != self.n:
            raise ValueError(
                f"x must have {self.n} channels along axis {self.axis}, got {input_shape}"
            )
        if training and prod(input_shape) < 2 * self.n:
            raise ValueError(
                f"x must have two values a channel or more in training, got {input_shape}"
            )
        return input_shape

    def _train(self, x: Array, overwrite: bool) -> Array:
        return self._normalized(x, None)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._inferred(x, overwrite, None)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        assert self._saved is not None  # backward comes after forward
        dx = dy if overwrite else self._dx.take(dy.shape, dy.dtype)
        grads = self._own_grads
        out = (dx, grads["gamma"], grads["beta"])
        batch_norm_backward(dy, self._x, self.gamma, self._saved, out=out)
        return dx

    def _normalized(self, x: Array, activation: str | None) -> Array:
        """y in training, optionally with an activation applied."""
        self._x = x
        params, statistics = self._own_params, self._own_statistics
        y, self._saved = batch_norm(
            x,
            params["gamma"],
            params["beta"],
            statistics["running_mean"],
            statistics["running_var"],
            training=True,
            momentum=self.momentum,
            eps=self.eps,
            axis=self.axis,
            activation=activation,
            running_var_correction=self.running_var_correction,
            convention=self.convention,
            num_batches_tracked=statistics.get("num_batches_tracked"),
            reuse=self._largest,
            out=self._y.take(x.shape, x.dtype),
        )
        if self._largest is None or x.size > self._largest_size:
            self._largest, self._largest_size = self._saved, x.size
        return y

    def _inferred(self, x: Array, overwrite: bool, activation: str | None) -> Array:
        params, statistics = self._own_params, self._own_statistics
        return batch_norm(
            x,
            params["gamma"],
            params["beta"],
            statistics["running_mean"],
            statistics["running_var"],
            training=False,
            eps=self.eps,
            axis=self.axis,
            activation=activation,
            out=x if overwrite else None,
        )[0]

    def _move_running(self, batch: BatchNormStats) -> None:
        """Update the running statistics from the merged statistics of a batch that was processed in shards."""
        rate = rate_of(self.momentum, self.convention)
        tracked = self.num_batches_tracked
        if tracked is not None:
            tracked += 1
            rate = 1 / int(tracked)
        assert rate is not None  # the batches are counted then
        unbiased = batch.m2 / (batch.count - self.running_var_correction)
        for running, value in ((self.running_mean, batch.mean), (self.running_var, unbiased)):
            running[...] = (1 - rate) * running.astype(np.float64) + rate * value

    def _settings(self) -> str:
        return f"{self.n}" + (f", axis={self.axis}" if self.axis != 1 else "")


class Dropout(RandomLayer):
    """Dropout: in training elements are 0 with probability p.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
    mode : "inverted" or "vanilla", default "inverted"
        Whether what is kept is scaled by ``1 / (1 - p)`` in training, or everything by ``1 - p`` in inference.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Of an int a Generator is made once, so that every step has another mask. A Generator is drawn from as nf.dropout
        does, once in a step.

    Raises
    ------
    TypeError
        If rng is of another type.
    ValueError
        If p is out of range or mode unknown.

    References
    ----------
    Srivastava et al., "Dropout", 2014.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.Dropout(0.5, rng=0)
    >>> x = np.ones((2, 8))
    >>> np.unique(layer.forward(x, training=True)), np.unique(layer.forward(x))
    (array([0., 2.]), array([1.]))
    """

    _in_place = True

    _fixed_scale: float | None = None
    """A scale that checks set in place of the one that follows from p."""
    _scale_of_p: tuple[float, float] = (math.nan, 1.0)
    """p, and the scale that follows from it."""
    p = Probability()

    def __init__(self, p: float = 0.5, *, mode: Mode = "inverted", rng: Rng = None) -> None:
        super().__init__()
        self.p = p
        vars(self)["mode"] = _checks.one_of(mode, ("inverted", "vanilla"), "mode")
        self._draw_from(rng)
        self._bits = Buffer()
        self._mask: Mask = np.empty(0, np.uint8)
        self._scale = 1.0

    @property
    def mode(self) -> Mode:
        """ "inverted" or "vanilla", as the layer was made."""
        found: Mode = vars(self)["mode"]
        return found

    def _train(self, x: Array, overwrite: bool) -> Array:
        self._mask = self._bits.take(((x.size + 7) // 8,), np.uint8)
        seed, offset = self._place(x)
        _core.dropout_mask(x.size, self.p, 1, seed, offset, self._mask)
        self._scale = self._training_scale()  # backward takes the same, whatever becomes of p
        return self._apply_mask(x, x if overwrite else self._y.take(x.shape, x.dtype))

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        return self._apply_mask(dy, dy if overwrite else self._dx.take(dy.shape, dy.dtype))

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return dropout(x, self.p, training=False, mode=self.mode, out=x if overwrite else None)[0]

    def _training_scale(self) -> float:
        if self._fixed_scale is not None:
            return self._fixed_scale
        p = self.p
        if self._scale_of_p[0] != p:
            self._scale_of_p = p, scale_of(p, self.mode)
        return self._scale_of_p[1]

    def _apply_mask(self, x: Array, out: Array) -> Array:
        """Apply the mask and the scale, in the forward as in the backward pass."""
        return _core.apply_mask(x, self._mask, self._scale, out)

    def _settings(self) -> str:
        return f"{self.p:g}" + (", mode='vanilla'" if self.mode == "vanilla" else "")


class StochasticDepth(KernelLayer):
    """A residual branch that is skipped at random in training: ``y = x + stochastic_depth(branch(x), p)``.

    With p = 0 it is a plain residual connection.

    Parameters
    ----------
    branch : Layer
        What is added to x, often a Sequential; of x's shape.
    p : float in [0, 1], default 0.5
        Probability of skipping it; otherwise it is scaled by ``1 / (1 - p)``. Inference adds it as it is.
    mode : "row" or "batch", default "row"
        Whether each sample skips it by itself, or all of them together.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        As of Dropout.

    Attributes
    ----------
    branch : Layer

    Raises
    ------
    TypeError
        If branch is no Layer, or rng of another type.
    ValueError
        If p is out of range or mode unknown; from forward, if the branch changes the shape.

    References
    ----------
    Huang et al., "Deep networks with stochastic depth", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> layer = nf.nn.StochasticDepth(nf.nn.ReLU(), p=0.5, rng=0)
    >>> x = np.ones((64, 1))
    >>> np.unique(layer.forward(x, training=True)), np.unique(layer.forward(x))
    (array([1., 3.]), array([2.]))
    """

    p = Probability()

    def __init__(
        self,
        branch: Layer,
        p: float = 0.5,
        *,
        mode: Literal["row", "batch"] = "row",
        rng: Rng = None,
    ) -> None:
        if not isinstance(branch, Layer):
            raise TypeError(f"branch must be a Layer, got {type(branch).__name__}")
        self._branch = stage_of(branch)
        super().__init__(self._branch._dtype)
        self._dtype_is_open = True  # as far as the branch's is
        self.branch = branch
        self.p = p
        vars(self)["mode"] = _checks.one_of(mode, ("row", "batch"), "mode")
        self._draw_from(rng)
        self._mask: AnyMask = np.empty(0, np.uint8)
        self._dbranch = Buffer()

    @property
    def mode(self) -> Literal["row", "batch"]:
        """ "row" or "batch", as the layer was made."""
        found: Literal["row", "batch"] = vars(self)["mode"]
        return found

    def named_params(self) -> dict[str, Array]:
        return {f"branch.{name}": value for name, value in self.branch.named_params().items()}

    def named_grads(self) -> dict[str, Array]:
        return {f"branch.{name}": value for name, value in self.branch.named_grads().items()}

    def named_statistics(self) -> dict[str, Array]:
        return {f"branch.{name}": value for name, value in self.branch.named_statistics().items()}

    def named_generators(self) -> dict[str, np.random.Generator]:
        within = self.branch.named_generators()
        return super().named_generators() | {f"branch.{name}": rng for name, rng in within.items()}

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        batch_of(input_shape, 1, "(N, ...)")
        shape = self.branch.output_shape(input_shape, training)
        if shape != input_shape:
            raise ValueError(f"branch must keep the shape of x, {input_shape}, got {shape}")
        return shape

    def _train(self, x: Array, overwrite: bool) -> Array:
        added = self._branch._train(x, False)
        y = self._y.take(x.shape, x.dtype)
        self._p_then = self.p  # backward takes the same, whatever becomes of p
        _, mask = stochastic_depth(added, self._p_then, mode=self.mode, rng=self._rng, out=y)
        assert mask is not None  # it is training
        self._mask = mask
        return np.add(x, y, out=y)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        dadded = self._dbranch.take(dy.shape, dy.dtype)
        stochastic_depth_backward(dy, self._mask, self._p_then, mode=self.mode, out=dadded)
        through = self._branch._backward(dadded, True, need_dx)
        if not need_dx:
            return None
        assert through is not None  # with need_dx
        return np.add(dy, through, out=dy if overwrite else self._dx.take(dy.shape, dy.dtype))

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return np.add(x, self._branch._infer(x, False), out=x if overwrite else None)

    def _settings(self) -> str:
        return f"{self.branch!r}, {self._own_settings()}"

    def _own_settings(self) -> str:
        return f"{self.p:g}" + (", mode='batch'" if self.mode == "batch" else "")

    def _rows(self, place: str, shape: Shape) -> Iterator[tuple[str, str, Shape, int]]:
        yield place, f"{type(self).__name__}({self._own_settings()})", shape, 0
        yield from self.branch._rows(f"{place}.branch", shape)

    def _children(self) -> tuple[Layer, ...]:
        return (self.branch,)


class Flatten(KernelLayer):
    """All axes but the first as one: (N, C, H, W) to (N, C H W), at no cost where x is contiguous.

    Raises
    ------
    ValueError
        From forward, if x has no axis.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.nn.Flatten().forward(np.ones((2, 3, 4, 4))).shape
    (2, 48)
    """

    _is_view = True

    def __init__(self) -> None:
        super().__init__()
        self._shape: Shape = ()

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        batch_of(input_shape, 1, "(N, ...)")
        return input_shape[0], prod(input_shape[1:])

    def _train(self, x: Array, overwrite: bool) -> Array:
        self._shape = x.shape
        return self._infer(x, overwrite)

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        return dy.reshape(self._shape)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return x.reshape(len(x), prod(x.shape[1:]))
