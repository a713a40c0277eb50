"""Lookahead: slow weights beside those of any optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _checks
from nnfast._array_lists import Arrays
from nnfast._state import Resumable, by_name, kept_dtype
from nnfast.optim.gradients import Grads
from nnfast.optim.momentum import SGD
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.stats import StepStats

__all__ = ["Lookahead"]


class Lookahead(Resumable):
    """Lookahead around any optimizer: after every k steps the parameters go back part of the way they went.

    ``slow += alpha (p - slow)``, ``p = slow`` after every k-th step of the optimizer; slow begins with the parameters.

    Parameters
    ----------
    optimizer : Optimizer
        Of any rule. Its settings are changed as before, ``opt.optimizer.lr``; ``opt.lr`` is the same.
    k : int, default 5
        Steps from one synchronization to the next, at least 1.
    alpha : float in [0, 1], default 0.5
        The share of the way that slow takes.

    Attributes
    ----------
    optimizer : Optimizer
    slow : list of ndarrays
        The slow weights, float32 for float16 and bfloat16.
    step_count : int
        That of the optimizer.

    Raises
    ------
    TypeError
        If optimizer is none, k not an int or alpha not a number.
    ValueError
        If k or alpha is out of range, or the optimizer has no parameters yet.

    See Also
    --------
    nnfast.averaging.EMA : An average that the parameters do not follow.

    Notes
    -----
    The optimizer's state is kept where parameters go back, as in the paper's best variant and in optax's default.

    References
    ----------
    Zhang, Lucas, Hinton, Ba, "Lookahead optimizer: k steps forward, 1 step back", 2019.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.Lookahead(nf.optim.SGD([w], lr=0.1), k=2)
    >>> for step in range(2):
    ...     opt.step([np.array([1.0, 0.0])])
    >>> w
    array([0.9, 2. ])
    """

    _kind = "optimizer"
    _optional = Optimizer._optional

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be an nnfast.optim.Optimizer, got {type(optimizer).__name__}"
            )
        if optimizer._unbound:
            raise ValueError(
                "optimizer must have parameters: a clone has none before its first step"
            )
        self.k = _checks.integer_from(k, 1, "k")
        self.alpha = _checks.real_in(alpha, 0.0, 1.0, "alpha")
        self.optimizer = optimizer
        self.slow = [np.array(fast, kept_dtype(fast)) for fast in self._fast()]
        # slow += alpha (p - slow) is a step of gradient ascent along p with an L2 penalty of strength 1: one pass of
        # all threads over all arrays.
        self._ascent = SGD(self.slow, weight_decay=1.0, maximize=True)

    @property
    def lr(self) -> float:
        """The optimizer's learning rate, which may be set."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer.lr = value

    @property
    def params(self) -> list[NDArray[Any]]:
        """The optimizer's parameters."""
        return self.optimizer.params

    @property
    def step_count(self) -> int:
        """How many steps the optimizer has made."""
        return self.optimizer.step_count

    def accumulate(self, grads: Grads) -> None:
        """Add gradients to those that the next step takes, as the optimizer's accumulate does.

        Parameters
        ----------
        grads : sequence or mapping of ndarrays
            As the optimizer's step takes them.

        Raises
        ------
        TypeError, ValueError, IndexError
            As the optimizer's accumulate. Nothing is changed then.
        """
        self.optimizer.accumulate(grads)

    def step(
        self,
        grads: Grads | None = None,
        *,
        params: Arrays | None = None,
        stats: bool = False,
        grad_scale: float = 1.0,
    ) -> StepStats | None:
        """Update the parameters with their gradients, and synchronize after every k-th step.

        Parameters
        ----------
        grads, params, stats, grad_scale
            As the optimizer's step takes them.

        Returns
        -------
        stats : StepStats or None
            Of the optimizer's step: a synchronization is not in it.

        Raises
        ------
        TypeError, ValueError
            As the optimizer's step, or if k or alpha is out of range. Nothing is changed then.
        """
        k, alpha = self.k, self.alpha
        if type(k) is not int or k < 1:
            k = _checks.integer_from(k, 1, "k")
        if type(alpha) is not float or not 0 <= alpha <= 1:
            alpha = _checks.real_in(alpha, 0.0, 1.0, "alpha")
        optimizer = self.optimizer
        before = optimizer.step_count
        found = None
        if params is None and not stats:  # each name takes a call longer
            optimizer.step(grads, grad_scale=grad_scale)
        else:
            found = optimizer.step(grads, params=params, stats=stats, grad_scale=grad_scale)
        now = optimizer.step_count
        if now != before and now % k == 0:
            self._synchronize(alpha)
        return found

    def _fast(self) -> list[NDArray[Any]]:
        """The optimizer's parameters, of float16 their masters."""
        masters = self.optimizer._master
        if masters is None:
            return self.optimizer.params
        return [p if m is None else m for p, m in zip(self.params, masters, strict=True)]

    def _synchronize(self, alpha: float) -> None:
        params, fast = self.optimizer.params, self._fast()
        self._ascent.lr = alpha
        self._ascent.step(fast)
        for of_steps, slow in zip(fast, self.slow, strict=True):
            of_steps[...] = slow
        if fast is not params:
            for param, of_steps, slow in zip(params, fast, self.slow, strict=True):
                if param is not of_steps:
                    param[...] = slow

    def __repr__(self) -> str:
        return f"Lookahead({self.optimizer!r}, k={self.k}, alpha={self.alpha})"

    # ---- the state ----

    def _state_arrays(self) -> dict[str, NDArray[Any]]:
        return self.optimizer._state_arrays() | by_name({"slow": self.slow}, self.optimizer._names)

    def _scalars(self) -> dict[str, NDArray[Any]]:
        return self.optimizer._scalars()

    def _check_scalars(self, given: dict[str, Any]) -> None:
        self.optimizer._check_scalars(given)

    def _take_scalars(self, given: dict[str, Any]) -> None:
        self.optimizer._take_scalars(given)

    def _saved_settings(self) -> dict[str, Any]:
        rule = type(self.optimizer).__name__
        own = {"rule": rule, "k": self.k, "alpha": self.alpha}
        return {**own, "optimizer": self.optimizer._saved_settings()}

    def _checked_settings(self, given: dict[str, Any]) -> Any:
        if given.keys() != {"rule", "k", "alpha", "optimizer"}:
            raise ValueError(
                f"state['settings'] must have rule, k, alpha and optimizer, got {', '.join(given)}"
            )
        rule = type(self.optimizer).__name__
        if given["rule"] != rule:
            raise ValueError(f"state['settings'] must be those of {rule}, got {given['rule']}")
        if not isinstance(given["optimizer"], Mapping):
            raise TypeError("state['settings']: optimizer must be an object")
        k = _checks.integer_from(given["k"], 1, "state['settings']['k']")
        alpha = _checks.real_in(given["alpha"], 0.0, 1.0, "state['settings']['alpha']")
        return k, alpha, self.optimizer._checked_settings(dict(given["optimizer"]))

    def _take_settings(self, checked: Any) -> None:
        self.k, self.alpha, of_optimizer = checked
        self.optimizer._take_settings(of_optimizer)
