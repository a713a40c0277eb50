"""Rules that step along an average of the gradients: SGD with momentum, and Lion, by its sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import DECOUPLED, L2, Options


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum or Nesterov's.

    With momentum μ and dampening τ, where v = g at the first step,

    .. math:: v \leftarrow \mu v + (1 - \tau) g, \qquad p \leftarrow p - lr \, v

    Nesterov's is ``p -= lr (g + momentum v)``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    momentum : float, default 0
    dampening : float, default 0
    weight_decay : float, default 0
    nesterov : bool, default False
        Needs momentum and no dampening.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``momentum_buffer`` (v), if there is momentum.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras (lr 0.01) and CS231n (lr 0.01, momentum 0.9) have lr inside v: ``v = momentum v + lr g``,
    ``p -= v``, which is another thing where lr changes. optax is as PyTorch.

    ``state_dtype="bfloat16"`` stores v in half the memory, ``"uint8"`` in a quarter: see the options below.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> opt.step([np.array([1.0, 0.0])]); opt.step([np.array([1.0, 0.0])])
    >>> w
    array([0.71, 2.  ])

    With v in 8 bits:

    >>> w = np.ones((64, 64), np.float32)
    >>> opt = nf.optim.SGD([w], momentum=0.9, state_dtype="uint8")
    >>> opt.state["momentum_buffer"][0].nbytes, w.nbytes
    (4160, 16384)
    """

    momentum: float
    dampening: float
    nesterov: bool
    _takes_rows = True
    _packs = True
    defaults: ClassVar = {
        "torch": {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "nesterov": False, **L2},
        "keras": {"lr": 1e-2, **DECOUPLED},
        "optax": {},
        "cs231n": {"lr": 1e-2, "momentum": 0.9},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        momentum: float | None = None,
        dampening: float | None = None,
        weight_decay: float | None = None,
        nesterov: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        for settings in ({}, *self.groups):
            own = {**vars(self), **settings}
            if own["nesterov"] and (own["momentum"] == 0 or own["dampening"] != 0):
                raise ValueError("nesterov needs momentum above 0 and dampening 0")
        if self._any("momentum"):
            return "sgd_momentum", ("momentum_buffer",)
        return "sgd", ()

    def _hyperparameters(self) -> tuple[str, ...]:
        if self._rule_name == "sgd":
            return ("lr",)
        return "lr", "momentum", "gradient_gain", "nesterov_gain", "nesterov"

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        return self._core.row(self.__dict__, t, lr, settings)


class Lion(Optimizer):
    """Lion: steps of one size, by the sign of an average.

    ``p *= 1 - lr weight_decay``, ``p -= lr sign(beta1 m + (1 - beta1) g)``, ``m = beta2 m + (1 - beta2) g``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-4
    betas : (float, float), default (0.9, 0.99)
        Each in [0, 1).
    weight_decay : float, default 0
        Decoupled, unless options say otherwise.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has no Lion: the default is the paper's. By convention: lr is 1e-3 in Keras, weight_decay 1e-3 in optax.

    ``state_dtype="bfloat16"`` stores m in half the memory, ``"uint8"`` in a quarter: see the options below.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0, 3.0])
    >>> nf.optim.Lion([w], lr=0.1).step([np.array([3.0, -0.5, 0.0])])
    >>> w
    array([0.9, 2.1, 3. ])

    With m in 8 bits:

    >>> w = np.ones((64, 64), np.float32)
    >>> opt = nf.optim.Lion([w], state_dtype="uint8")
    >>> opt.state["exp_avg"][0].nbytes, w.nbytes
    (4160, 16384)
    """

    betas: tuple[float, float]
    _packs = True
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-4,
            "betas": (0.9, 0.99),
            "weight_decay": 0.0,
            "decoupled_weight_decay": True,
        },
        "keras": {"lr": 1e-3},
        "optax": {"weight_decay": 1e-3},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "lion", ("exp_avg",)

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "step_decay", "step_gain", "decay", "gain"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        return lr, beta1, 1 - beta1, beta2, 1 - beta2
