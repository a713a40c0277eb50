"""Schedule-free rules: an average of the steps in place of a rate that falls."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from nnfast import _checks
from nnfast._state import kept_dtype
from nnfast.optim.configured import Values
from nnfast.optim.direction import DirectionDecay
from nnfast.optim.groups import Params
from nnfast.optim.settings import Options

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]


class _ScheduleFree(DirectionDecay):
    """Parameters y, where gradients are taken, between z, which descends, and x, the average of all z."""

    weight_lr_power: float

    def __init__(self, params: Params, arguments: Mapping[str, Any], options: Options) -> None:
        if options.get("ema_decay") is not None:
            raise ValueError(
                f"ema_decay must not be given to {type(self).__name__}, which averages by itself"
            )
        super().__init__(params, arguments, options)
        # Of each group: the sum of the weights of all steps, and the largest rate.
        self._carried: list[tuple[float, float]] = [(0.0, 0.0)] * max(1, len(self.groups))

    def averaged_params(self) -> Any:
        """What the network is to be evaluated with: the average x of the steps, as copies in the form of params.

        Returns
        -------
        averages : list or dict of ndarrays
            float16 parameters have float32 averages.
        """
        masters = self._master or [None] * len(self.params)
        found = []
        for i, (param, master, z) in enumerate(
            zip(self.params, masters, self.state["z"], strict=True)
        ):
            y = param if master is None else master
            share = z.dtype.type(self._share_of_x(i))
            # Of an array without axes NumPy's quotient is no array.
            found.append(np.asarray((y - (1 - share) * z) / share))
        return found if self._names is None else dict(zip(self._names, found, strict=True))

    def _share_of_x(self, i: int) -> float:
        """beta1: the share of x in y, of parameter i."""
        raise NotImplementedError

    def _first_state(
        self, param: NDArray[Any], settings: Mapping[str, Any], name: str
    ) -> NDArray[Any]:
        if name == "z":
            return param.astype(kept_dtype(param))
        return super()._first_state(param, settings, name)

    def _steps(self, lr: float, beta: float, settings: Mapping[str, Any], product: Any) -> Values:
        """lr, step_lr and weight of the kernels."""
        weights, largest = _weighed(lr, settings, product)
        share = _weight(largest, settings) / weights if weights else 0.0
        return lr, lr * (1 - beta * (1 - share)), share

    def _done(self, t: int) -> None:
        super()._done(t)
        for i, settings in enumerate(self._checked):
            group = self.groups[i] if self.groups else {}
            lr = _checks.not_negative(group.get("lr", self.lr), "lr")
            self._carried[i] = _weighed(lr, settings, self._carried[i])

    def _rule_scalars(self) -> dict[str, list[float]]:
        weights, rates = zip(*self._carried, strict=True)
        return {"weight_sum": list(weights), "largest_lr": list(rates)}

    def _check_scalars(self, given: dict[str, Any]) -> None:
        own = {name: given[name] for name in given.keys() & {"weight_sum", "largest_lr"}}
        super()._check_scalars({name: value for name, value in given.items() if name not in own})
        for name, values in own.items():
            for value in values if isinstance(values, list) else [values]:
                _checks.finite_not_negative(value, f"state[{name!r}]")

    def _take_scalars(self, given: dict[str, Any]) -> None:
        self._carried = list(zip(given["weight_sum"], given["largest_lr"], strict=True))
        self.step_count = given["step_count"]
        self.skipped_count = given.get("skipped_count", self.skipped_count)


def _weighed(
    lr: float, settings: Mapping[str, Any], product: tuple[float, float]
) -> tuple[float, float]:
    """The sum of weights and the largest rate, with those of a step."""
    weights, largest = product
    largest = max(largest, lr)
    return weights + _weight(largest, settings), largest


def _weight(largest: float, settings: Mapping[str, Any]) -> float:
    try:
        return float(largest ** settings["weight_lr_power"])
    except OverflowError:
        return inf


class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-free SGD: no rate that falls, and so no end that has to be known.

    ``z -= lr g``, ``x = (1 - c) x + c z``, ``p = (1 - momentum) z + momentum x``: the parameters p are where gradients
    are taken; the network is evaluated with x, which ``opt.averaged_params()`` gives. c is the weight of the step,
    ``largest lr^weight_lr_power``, over that of all steps: 1 / t where lr stays the same.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1
    momentum : float in (0, 1), default 0.9
        The share of x in p.
    weight_decay : float, default 0
    weight_lr_power : float, default 2
        How much more steps of larger rates weigh in x; not negative. 0: all weigh the same.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``z``, at first the parameters.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, ema_decay is given, or an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has none: the default is the authors' code without its warm-up, for which lr may be set at every step. optax
    is the same. BatchNorm's statistics are to be computed again with x: ``nnfast.averaging.BatchNormRecomputer``.

    References
    ----------
    Defazio et al., "The road less scheduled", 2024.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.ScheduleFreeSGD([w], lr=0.1)
    >>> for step in range(100):
    ...     opt.step([2 * w])
    >>> opt.averaged_params()[0].round(3)
    array([0.021, 0.042])
    """

    momentum: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1.0,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "decoupled_weight_decay": False,
            "weight_lr_power": 2.0,
        },
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        weight_lr_power: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        for group in ({}, *self.groups):
            momentum = group.get("momentum", self.momentum)
            if not 0 < momentum < 1:
                raise ValueError(f"momentum must be in (0, 1), got {momentum!r}")
        return "schedule_free_sgd", ("z",)

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "step_lr", "weight"

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: Any) -> Values:
        if settings["decoupled_weight_decay"]:  # what joins the direction joins the gradient here
            settings = {**settings, "decoupled_weight_decay": False}
        return super()._row(t, lr, settings, product)

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: Any) -> Values:
        return self._steps(lr, settings["momentum"], settings, product)

    def _share_of_x(self, i: int) -> float:
        return float(self._of_param(i, "momentum"))


class ScheduleFreeAdamW(_ScheduleFree):
    r"""Schedule-free AdamW: no rate that falls, and so no end that has to be known.

    With weight_decay λ

    .. math::

        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad \hat v = v / (1 - \beta_2^t) \\
        u &= g / (\sqrt{\hat v} + eps) + \lambda p \\
        z &\leftarrow z - lr \, u, \qquad x \leftarrow (1 - c) x + c z \\
        p &= (1 - \beta_1) z + \beta_1 x

    The parameters p are where gradients are taken; the network is evaluated with x, which ``opt.averaged_params()``
    gives. c is the weight of the step, ``largest lr^weight_lr_power``, over that of all steps: 1 / t where lr stays
    the same.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 2.5e-3
    betas : (float, float), default (0.9, 0.999)
        beta1 in (0, 1), beta2 in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
        Part of u; with ``decoupled_weight_decay=False`` of the gradient.
    weight_lr_power : float, default 2
        How much more steps of larger rates weigh in x; not negative. 0: all weigh the same.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``z``, at first the parameters, and ``exp_avg_sq`` (v).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, ema_decay is given, or an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has none: the default is the authors' code without its warm-up, for which lr may be set at every step. optax
    is the same. BatchNorm's statistics are to be computed again with x: ``nnfast.averaging.BatchNormRecomputer``.

    References
    ----------
    Defazio et al., "The road less scheduled", 2024.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.ScheduleFreeAdamW([w], lr=0.1)
    >>> opt.step([2 * w]); opt.step([2 * w])
    >>> opt.averaged_params()[0].round(2)
    array([0.85, 1.85])
    """

    betas: tuple[float, float]
    eps: float
    defaults: ClassVar = {
        "torch": {
            "lr": 2.5e-3,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.0,
            "decoupled_weight_decay": True,
            "weight_lr_power": 2.0,
        },
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        weight_lr_power: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        for group in ({}, *self.groups):
            if group.get("betas", self.betas)[0] == 0:
                raise ValueError("betas[0] must be above 0: without it there is no average")
        return "schedule_free_adam", ("z", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "step_lr", "weight", "eps", "correction", "decay2", "gain2", "decay"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: Any) -> Values:
        beta1, beta2 = settings["betas"]
        of_v = settings["eps"], (1 - beta2**t) ** -0.5, beta2, 1 - beta2
        steps = self._steps(lr, beta1, settings, product)
        return *steps, *of_v, self._direction_decay(settings)

    def _share_of_x(self, i: int) -> float:
        return float(self._of_param(i, "betas")[0])
