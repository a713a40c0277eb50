"""The rate that depends on what the training reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, SupportsFloat

from nnfast import _checks
from nnfast.schedules import _fields

__all__ = ["ReduceOnPlateau"]


@dataclass
class ReduceOnPlateau:
    """A fall by a factor whenever a metric has stopped improving; ``lr = plateau.update(metric)``.

    A metric is better if below ``best * (1 - threshold)``, or as mode and threshold_mode say; NaN never is. After more
    than `patience` updates without a better one, ``lr = max(lr * factor, min_lr)``, and the count begins anew after
    `cooldown` updates. The rule is that of PyTorch's ReduceLROnPlateau, to the bit.

    Parameters
    ----------
    lr : float
        The rate at first.
    mode : "min" or "max", default "min"
        Whether a lower metric is better, as a loss, or a higher one, as an accuracy.
    factor : float in [0, 1), default 0.1
    patience : int, default 10
        Updates without a better metric that are tolerated.
    threshold : float, default 1e-4
        How much better a metric has to be; not negative.
    threshold_mode : "rel" or "abs", default "rel"
        "rel" compares with ``best * (1 - threshold)``, or ``best * (1 + threshold)`` for "max"; where metrics are
        negative, worse ones pass. "abs" compares with ``best - threshold``, or ``best + threshold``.
    cooldown : int, default 0
        Updates after a fall that count as good.
    min_lr : float, default 0
    eps : float, default 1e-8
        A fall by no more than this is left out.

    Attributes
    ----------
    lr : float
        The rate now; may be set.
    best : float
        The best metric so far; at first inf, or -inf.
    num_bad_epochs, cooldown_counter : int
        Updates without a better one; updates that are left of the cooldown.

    Raises
    ------
    TypeError
        If a number is not real, or patience or cooldown not an integer.
    ValueError
        If a number is out of its range, or a mode unknown.

    Examples
    --------
    >>> import nnfast as nf
    >>> plateau = nf.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> [plateau.update(loss) for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9)]
    [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    """

    lr: float = field(metadata=_fields.RATE)
    _: KW_ONLY
    mode: str = field(default="min", metadata={"check": _fields.one_of("min", "max")})
    factor: float = field(default=0.1, metadata=_fields.REDUCTION)
    patience: int = field(default=10, metadata=_fields.COUNT_OR_0)
    threshold: float = field(default=1e-4, metadata=_fields.FACTOR)
    threshold_mode: str = field(default="rel", metadata={"check": _fields.one_of("rel", "abs")})
    cooldown: int = field(default=0, metadata=_fields.COUNT_OR_0)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)
    eps: float = field(default=1e-8, metadata=_fields.FACTOR)
    best: float = field(init=False)
    num_bad_epochs: int = field(init=False, default=0)
    cooldown_counter: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        _fields.check_fields(self)
        self.best = math.inf if self.mode == "min" else -math.inf

    def update(self, metric: SupportsFloat) -> float:
        """Report the metric of an epoch.

        Parameters
        ----------
        metric : float
            NaN counts as no better than any.

        Returns
        -------
        lr : float
            The rate from now on.

        Raises
        ------
        TypeError
            If metric is not a real number. Nothing is changed then.
        """
        value = _checks.real(metric, "metric")
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
        return self.lr

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return metric > bound if self.mode == "max" else metric < bound

    def _reduce(self) -> None:
        reduced = max(self.lr * self.factor, self.min_lr)
        if self.lr - reduced > self.eps:
            self.lr = reduced
        self.cooldown_counter = self.cooldown
        self.num_bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        """The state, from which an equal object can go on.

        Returns
        -------
        state : dict
            ``lr``, ``best``, ``num_bad_epochs`` and ``cooldown_counter``, floats and ints.

        Examples
        --------
        >>> import nnfast as nf
        >>> plateau = nf.schedules.ReduceOnPlateau(0.1)
        >>> plateau.update(2.5)
        0.1
        >>> plateau.state_dict()
        {'lr': 0.1, 'best': 2.5, 'num_bad_epochs': 0, 'cooldown_counter': 0}
        """
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what state_dict returned.

        Parameters
        ----------
        state : mapping
            As returned by state_dict. What was given when the object was made is not part of it.

        Raises
        ------
        TypeError
            If state is not a mapping, or a value has the wrong type.
        ValueError
            If names are missing or too many, or a value is out of its range. Nothing is changed then.

        Examples
        --------
        >>> import nnfast as nf
        >>> saved = nf.schedules.ReduceOnPlateau(0.1).state_dict()
        >>> plateau = nf.schedules.ReduceOnPlateau(1.0)
        >>> plateau.load_state_dict(saved)
        >>> plateau.lr
        0.1
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, got {type(state).__name__}")
        if state.keys() != _STATE.keys():
            raise ValueError(f"state must have the names {', '.join(_STATE)}, got {list(state)}")
        checked = {name: check(state[name], f"state[{name!r}]") for name, check in _STATE.items()}
        for name, value in checked.items():
            setattr(self, name, value)


_STATE: dict[str, Callable[[Any, str], float]] = {
    "lr": _checks.finite_not_negative,
    "best": _fields.not_nan,
    "num_bad_epochs": _fields.count_or_0,
    "cooldown_counter": _fields.count_or_0,
}
