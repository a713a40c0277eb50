"""Optimizers: classes and arguments named as in PyTorch, one kernel call for all arrays of a step.

Parameters are updated in place. State lives in ``opt.state``, a dict of lists of arrays that the caller may read, save
and overwrite; ``opt.step_count`` is an int.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _array_lists, _checks
from nnfast._array_lists import Arrays
from nnfast._load import _core

__all__ = ["SGD", "Adam"]


class _Optimizer:
    """What the rules share: the parameters, the state beside them, and the order of the gradients."""

    lr: float
    state: dict[str, list[NDArray[Any]]]

    def __init__(self, params: Arrays, state_names: tuple[str, ...]) -> None:
        self._names = _array_lists.names_of(params)
        self.params: list[NDArray[Any]] = _array_lists.values(params, "params")
        _core.check_params(self.params)
        self.step_count = 0
        self.state = {name: [np.zeros_like(p) for p in self.params] for name in state_names}

    def step(self, grads: Arrays) -> None:
        """Update the parameters by their gradients.

        Parameters
        ----------
        grads : sequence or mapping of ndarrays
            As params were given: as many, in the same order or under the same names, of the same shapes and dtypes.

        Raises
        ------
        TypeError
            If a gradient is not an array of its parameter's dtype.
        ValueError
            If shapes or counts differ, or a parameter has become read-only. Nothing is changed then.
        """
        values = _array_lists.values_like(grads, self._names, "grads")
        self._update(values, _checks.not_negative(self.lr, "lr"))
        self.step_count += 1

    def _update(self, grads: list[NDArray[Any]], lr: float) -> None:
        raise NotImplementedError


class SGD(_Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's.

    ``v = momentum v + (1 - dampening) g`` (``v = g`` at the first step), ``p -= lr v``; Nesterov's
    ``p -= lr (g + momentum v)``. lr stands outside v, as in PyTorch (Keras and CS231n have it inside).

    Parameters
    ----------
    params : sequence or mapping of ndarrays
        float32 or float64, any shapes and strides, writeable, sharing no memory with each other. Updated in place.
    lr : float, default 1e-3
        Learning rate; ``opt.lr`` may be set before every step, as may the other numbers.
    momentum : float, default 0
    dampening : float, default 0
    weight_decay : float, default 0
        L2 penalty: ``g + weight_decay p`` is the gradient.
    nesterov : bool, default False
        Needs momentum and no dampening.
    maximize : bool, default False
        Climb instead of descend.

    Attributes
    ----------
    state : dict
        ``momentum_buffer``: a list of arrays like params, if momentum is not 0; empty otherwise.
    step_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of float32 or float64, or a number is not real.
    ValueError
        If a number is negative, an array is read-only or shares memory with another.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> opt.step([np.array([1.0, 0.0])]); opt.step([np.array([1.0, 0.0])])
    >>> w
    array([0.71, 2.  ])
    """

    def __init__(
        self,
        params: Arrays,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        self.lr = _checks.not_negative(lr, "lr")
        self.momentum = _checks.not_negative(momentum, "momentum")
        self.dampening = _checks.real(dampening, "dampening")
        self.weight_decay = _checks.not_negative(weight_decay, "weight_decay")
        self.nesterov = bool(nesterov)
        self.maximize = bool(maximize)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")
        super().__init__(params, ("momentum_buffer",) if self.momentum else ())

    def _update(self, grads: list[NDArray[Any]], lr: float) -> None:
        if not self.state:
            _core.sgd(self.params, grads, lr, self.weight_decay, self.maximize)
            return
        _core.sgd_momentum(
            self.params,
            grads,
            self.state["momentum_buffer"],
            lr,
            self.momentum,
            self.dampening,
            self.weight_decay,
            self.nesterov,
            self.maximize,
            self.step_count == 0,
        )


class Adam(_Optimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g**2``, ``p -= lr m' / (sqrt(v') + eps)`` with the
    bias-corrected ``m' = m / (1 - beta1**t)`` and ``v' = v / (1 - beta2**t)``, the corrections in double precision.

    Parameters
    ----------
    params : sequence or mapping of ndarrays
        float32 or float64, any shapes and strides, writeable, sharing no memory with each other. Updated in place.
    lr : float, default 1e-3
        Learning rate; ``opt.lr`` may be set before every step, as may the other numbers.
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
        Outside the root. (Keras: 1e-7, before the correction.)
    weight_decay : float, default 0
        L2 penalty: ``g + weight_decay p`` is the gradient.
    maximize : bool, default False
        Climb instead of descend.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m) and ``exp_avg_sq`` (v): lists of arrays like params. Subnormal values count as zero.
    step_count : int
        t.

    Raises
    ------
    TypeError
        If a parameter is not an array of float32 or float64, or a number is not real.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.Adam({"w": w}, lr=0.1)
    >>> opt.step({"w": np.array([3.0, -0.5])})
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Arrays,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        self.lr = _checks.not_negative(lr, "lr")
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise TypeError(f"betas must be two numbers, got {betas!r}")
        self.betas = (_beta(betas[0], "betas[0]"), _beta(betas[1], "betas[1]"))
        self.eps = _checks.not_negative(eps, "eps")
        self.weight_decay = _checks.not_negative(weight_decay, "weight_decay")
        self.maximize = bool(maximize)
        super().__init__(params, ("exp_avg", "exp_avg_sq"))

    def _update(self, grads: list[NDArray[Any]], lr: float) -> None:
        beta1, beta2 = self.betas
        t = self.step_count + 1
        _core.adam(
            self.params,
            grads,
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
            lr / (1 - beta1**t),
            beta1,
            beta2,
            self.eps,
            (1 - beta2**t) ** -0.5,
            self.weight_decay,
            self.maximize,
        )


def _beta(value: Any, name: str) -> float:
    beta = _checks.real(value, name)
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be in [0, 1), got {beta!r}")
    return beta
