"""Rules of matrices, whose steps are no elementwise function: Muon and Adafactor."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, sqrt
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from nnfast._load import _core
from nnfast._state import kept_dtype
from nnfast.optim.configured import Values
from nnfast.optim.gradients import some
from nnfast.optim.groups import Params
from nnfast.optim.masters import needs_master, refreshed
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import SHARED_HYPERPARAMETERS, Options

__all__ = ["Adafactor", "Muon"]

Array = NDArray[Any]


class _OfMatrices(Optimizer):
    """The base of rules whose steps are made in three parts.

    One kernel scales, clips and averages the gradients, NumPy makes directions of them, and one kernel takes the step
    along those. The first kernel has arrays of zeros for parameters, and steps by -1 times the direction.
    """

    def __init__(self, params: Params, arguments: Mapping[str, Any], options: Options) -> None:
        super().__init__(params, arguments, options)
        for settings in self._checked:
            if not settings["decoupled_weight_decay"]:
                raise ValueError(f"decoupled_weight_decay must be True for {type(self).__name__}")

    def _mark(self) -> None:
        self._special = True  # steps are not plain ones

    def _directions(
        self, t: int, arrays: list[Array], params: list[Array], which: list[int]
    ) -> list[float]:
        """Make directions of what the first kernel left in arrays, in place, and return the rate of each."""
        raise NotImplementedError

    def _run(
        self,
        t: int,
        grads: list[Any],
        stats: bool,
        scale: float,
        chosen: list[int] | None = None,
        named: Mapping[int, NDArray[Any]] | None = None,
        sums: list[NDArray[Any] | None] | None = None,
    ) -> tuple[bool, NDArray[np.float64] | None]:
        rows = (
            (self._group_hyperparameters(t, 0, self.__dict__),)
            if self._group_of is None
            else self._rows_of_groups(t)
        )
        which = list(range(len(self.params))) if chosen is None else chosen
        keys, params, ema, master = self._names, self.params, self.ema, self._master
        group_of = self._group_of or [0] * len(params)
        state = {name: self.state[name] for name in self._core_states}
        if chosen is not None:
            keys = some(keys or range(len(params)), which)
            params, ema, master, group_of = (
                some(a, which) for a in (params, ema, master, group_of)
            )
            state = {name: some(arrays, which) for name, arrays in state.items()}
        if len(grads) != len(params):
            raise ValueError(
                f"grads must have one array for each of the {len(params)} parameters, got {len(grads)}"
            )
        self._apply.check(params, {}, ema, master, keys, None)
        arrays = [np.zeros(p.shape, kept_dtype(p)) for p in params]
        if master is not None:
            grads = [_widened(grad, param) for grad, param in zip(grads, params, strict=True)]
        # The first kernel knows no decay of zeros.
        firsts = tuple((row[0], row[1], 0.0, 1.0, 0.0, *row[5:]) for row in rows)
        done, found = self._core.step(
            arrays,
            grads,
            state,
            None,
            None,
            firsts,
            group_of,
            self._clip_kind,
            self._clip_limit,
            self.skip_nonfinite,
            stats,
            keys,
            sums,
            scale,
        )
        if not done:
            return False, found
        masters = master or [None] * len(params)
        targets = [
            p if m is None else refreshed(m, p) for p, m in zip(params, masters, strict=True)
        ]
        with np.errstate(all="ignore"):  # as in kernels
            rates = self._directions(t, arrays, targets, which)
        own = tuple(
            (1.0, inf, 0.0, *rows[group][3:5], rate)
            for group, rate in zip(group_of, rates, strict=True)
        )
        _, of_step = self._apply.step(
            targets,
            arrays,
            {},
            ema,
            None,
            own,
            list(range(len(own))),
            0,
            inf,
            False,
            stats,
            keys,
            None,
            1.0,
        )
        for param, target in zip(params, targets, strict=True):
            if param is not target:
                with np.errstate(over="ignore"):
                    param[...] = target
        if found is not None and of_step is not None:
            found[:, 1:3] = of_step[:, 1:3]
        return True, found

    _core_states: ClassVar[tuple[str, ...]]  # the state arrays of the first kernel

    def _new_core(self) -> Any:
        self._apply = _core.Optimizer(
            "sgd", [], [*SHARED_HYPERPARAMETERS, "lr"], self._setting_names
        )
        hyperparameters = [*SHARED_HYPERPARAMETERS, *self._hyperparameters()]
        names = list(self._core_states)
        return _core.Optimizer(self._rule_name, names, hyperparameters, self._setting_names)

    def __getstate__(self) -> dict[str, Any]:
        return {k: value for k, value in super().__getstate__().items() if k != "_apply"}


def _widened(grad: Any, param: Array) -> Any:
    if needs_master(param) and isinstance(grad, np.ndarray) and grad.dtype == param.dtype:
        return grad.astype(np.float32)
    return grad


class Muon(_OfMatrices):
    r"""Muon: momentum, made orthogonal. For the weights of hidden layers; others have an optimizer of another rule.

    With momentum μ and weight_decay λ

    .. math::

        v &\leftarrow \mu v + (1 - \mu) g, \qquad u = \mu v + (1 - \mu) g \\
        p &\leftarrow (1 - lr \, \lambda) p - lr \, s \, O

    O is the matrix of u's singular vectors whose singular values are about 1: ns_steps times
    ``X = a X + (b A + c A²) X``, ``A = X Xᵀ``, from ``X = u / ‖u‖``. s is √max(1, rows / columns).

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other. Each has two axes.
    lr : float, default 1e-3
    weight_decay : float, default 0.1
    momentum : float, default 0.95
    nesterov : bool, default True
        Whether u is Nesterov's, as above, or v itself.
    ns_coefficients : (float, float, float), default (3.4445, -4.775, 2.0315)
        a, b and c.
    eps : float, default 1e-7
        The least ‖u‖ that is divided by.
    ns_steps : int in [0, 100), default 5
        Iterations.
    adjust_lr_fn : "original" or "match_rms_adamw", default "original"
        With the other, s is 0.2 √max(rows, columns), for which lr and weight_decay of AdamW fit.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``momentum_buffer`` (v).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, decoupled_weight_decay is false, a parameter has not two axes, or an array is
        read-only or shares memory with another.

    Notes
    -----
    PyTorch computes X in bfloat16, here it has the parameter's precision (float32 for float16 and bfloat16). The
    products are NumPy's: their bits depend on its BLAS, and on how many threads that has.

    References
    ----------
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.zeros((2, 2))
    >>> nf.optim.Muon([w], lr=0.1).step([np.array([[3.0, 0.0], [0.0, 1.0]])])
    >>> (np.abs(w) < 0.13).all()
    np.True_
    """

    momentum: float
    nesterov: bool
    ns_coefficients: tuple[float, float, float]
    eps: float
    ns_steps: int
    adjust_lr_fn: str
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-3,
            "weight_decay": 0.1,
            "decoupled_weight_decay": True,
            "momentum": 0.95,
            "nesterov": True,
            "ns_coefficients": (3.4445, -4.7750, 2.0315),
            "eps": 1e-7,
            "ns_steps": 5,
            "adjust_lr_fn": "original",
        }
    }
    _core_states = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        nesterov: bool | None = None,
        ns_coefficients: tuple[float, float, float] | None = None,
        eps: float | None = None,
        ns_steps: int | None = None,
        adjust_lr_fn: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        for key, param in zip(self._names or range(len(self.params)), self.params, strict=True):
            if getattr(param, "ndim", 2) != 2:
                raise ValueError(f"params[{key!r}] must have two axes, got shape {param.shape}")
        return "sgd_momentum", self._core_states

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "momentum", "gradient_gain", "nesterov_gain", "nesterov"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        momentum = settings["momentum"]
        return -1.0, momentum, 1 - momentum, 1 - momentum, float(settings["nesterov"])

    def _directions(
        self, t: int, arrays: list[Array], params: list[Array], which: list[int]
    ) -> list[float]:
        rates = []
        for k, i in enumerate(which):
            settings = self._checked[self._group_of[i] if self._group_of else 0]
            coefficients, steps = settings["ns_coefficients"], settings["ns_steps"]
            arrays[k] = _orthogonal(arrays[k], coefficients, steps, settings["eps"])
            rows, columns = arrays[k].shape
            if settings["adjust_lr_fn"] == "original":
                scale = sqrt(max(1, rows / max(columns, 1)))
            else:
                scale = 0.2 * sqrt(max(rows, columns))
            rates.append(self._of_param(i, "lr") * scale)
        return rates


def _orthogonal(x: Array, coefficients: tuple[float, ...], steps: int, eps: float) -> Array:
    """The matrix of the singular vectors of x, by Newton-Schulz iterations of a quintic polynomial. Changes x."""
    if x.size == 0:
        return x
    x *= x.dtype.type(1 / max(_norm(x), eps))
    tall = x.shape[0] > x.shape[1]
    a, b, c = map(x.dtype.type, coefficients)
    gram, inner, outer = np.empty((3, min(x.shape), min(x.shape)), x.dtype)
    inner_diagonal, outer_diagonal = (m.reshape(-1)[:: len(m) + 1] for m in (inner, outer))
    for _ in range(steps):
        left, right = (x.T, x) if tall else (x, x.T)
        np.matmul(left, right, out=gram)
        # a X + (b A + c A^2) X, with all that is elementwise done to the small matrices.
        np.multiply(gram, c, out=inner)
        inner_diagonal += b
        np.matmul(gram, inner, out=outer)
        outer_diagonal += a
        x = x @ outer if tall else outer @ x
    return x


def _norm(x: Array) -> float:
    """The Euclidean norm, summed in float64 in a fixed order."""
    return sqrt(_core.elastic_net([x], 0.0, 2.0, None, None))


class Adafactor(_OfMatrices):
    r"""Adafactor: a second moment of a row and a column for each matrix, in place of one of all elements.

    With ``b = t^beta2_decay``, weight_decay λ, and means of g² along the last axis (rows) and the one before (columns)

    .. math::

        r &\leftarrow (1 - b) r + b \operatorname{mean}_{rows}(g^2), \qquad
            c \leftarrow (1 - b) c + b \operatorname{mean}_{columns}(g^2) \\
        v &= r c / \max(\operatorname{mean}(r), eps_1), \qquad u = g / \sqrt{\max(v, eps_1^2)} \\
        p &\leftarrow (1 - lr \, \lambda) p
            - \min(lr, 1 / \sqrt t) \frac{\max(eps_2, \operatorname{rms}(p))}{\max(1, \operatorname{rms}(u) / d)} u

    Of arrays with fewer axes ``v = (1 - b) v + b g²``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
    beta2_decay : float, default -0.8
        At most 0.
    eps1 : float, optional
        None is the distance from 1 to the next number of the parameter's dtype, float32 for float16 and bfloat16.
    eps2 : float, default 1e-3
        The least rms(p) that the step is in proportion to; not negative.
    d : float, default 1
        The largest rms(u) of a step. Positive.
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``row_var`` (r, of shape (..., m, 1)) and ``col_var`` (c, of shape (..., 1, n)) of parameters with two axes or
        more, ``variance`` (v) of the others; the arrays that a parameter does not have are empty.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, decoupled_weight_decay is false, or an array is read-only or shares memory with
        another.

    Notes
    -----
    PyTorch has eps1 and eps2 as a pair ``eps``. Means of squares and norms are accumulated in float64, in an order that
    depends on the shape alone.

    References
    ----------
    Shazeer, Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.ones((2, 3))
    >>> opt = nf.optim.Adafactor([w], lr=0.1)
    >>> opt.step([np.ones((2, 3))])
    >>> w.round(6)
    array([[0.9, 0.9, 0.9],
           [0.9, 0.9, 0.9]])
    >>> opt.state["row_var"][0].shape, opt.state["col_var"][0].shape
    ((2, 1), (1, 3))
    """

    beta2_decay: float
    eps1: float | None
    eps2: float
    d: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-2,
            "beta2_decay": -0.8,
            "eps1": None,
            "eps2": 1e-3,
            "d": 1.0,
            "weight_decay": 0.0,
            "decoupled_weight_decay": True,
        }
    }
    _core_states = ()

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        beta2_decay: float | None = None,
        eps1: float | None = None,
        eps2: float | None = None,
        d: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "sgd", ("row_var", "col_var", "variance")

    def _hyperparameters(self) -> tuple[str, ...]:
        return ("lr",)

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        return (-1.0,)

    def _first_state(self, param: Array, settings: Mapping[str, Any], name: str) -> Array:
        shape: tuple[int, ...] = (0,)
        if (name == "variance") != (param.ndim > 1):
            ends = {"row_var": (1,), "col_var": (1, *param.shape[-1:]), "variance": param.shape}
            starts = {"row_var": param.shape[:-1], "col_var": param.shape[:-2], "variance": ()}
            shape = starts[name] + ends[name]
        return np.zeros(shape, kept_dtype(param))

    def _directions(
        self, t: int, arrays: list[Array], params: list[Array], which: list[int]
    ) -> list[float]:
        rates = []
        for g, param, i in zip(arrays, params, which, strict=True):
            settings = self._checked[self._group_of[i] if self._group_of else 0]
            lr = min(self._of_param(i, "lr"), 1 / sqrt(t))
            root = sqrt(max(1, g.size))
            alpha = max(settings["eps2"], _norm(param) / root) * lr
            eps1 = settings["eps1"]
            eps1 = _EPSILONS[g.dtype] if eps1 is None else eps1
            share = t ** settings["beta2_decay"]
            if g.ndim < 2:
                size = _divided(g, self.state["variance"][i], share, eps1)
            elif g.size == 0:
                size = 0.0
            else:
                size = self._factored(i, g, share, eps1)
            rates.append(alpha / max(1.0, size / (root * settings["d"])))
        return rates

    def _factored(self, i: int, g: Array, share: float, eps1: float) -> float:
        """Update the second moments of matrices and divide g by their root; returns the norm of the quotients."""
        moments = self.state["row_var"][i], self.state["col_var"][i]
        rows, columns = (np.ascontiguousarray(of) for of in moments)
        size = _core.factored(g, rows, columns, share, eps1)
        for of, made in zip(moments, (rows, columns), strict=True):
            if of is not made:  # an array that the caller put there
                of[...] = made
        return size


_EPSILONS = {np.dtype(t): float(np.finfo(t).eps) for t in (np.float32, np.float64)}


def _divided(g: Array, variance: Array, share: float, eps1: float) -> float:
    """Update a second moment of all elements and divide g by its root, in place; returns the norm of the quotients."""
    number = g.dtype.type
    variance += number(share) * (g * g - variance)
    g /= np.sqrt(np.maximum(variance, number(eps1 * eps1)))
    return _norm(g)
