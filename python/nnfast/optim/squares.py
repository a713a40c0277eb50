"""Rules that divide by the root of squares, summed or averaged: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import DECOUPLED, L2, Options


class Adagrad(Optimizer):
    """AdaGrad: steps that shrink by the sum of all squares so far.

    ``s += g²``, ``p -= lr / (1 + (t - 1) lr_decay) · g / (√s + eps)``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
    lr_decay : float, default 0
    weight_decay : float, default 0
    initial_accumulator_value : float, default 0
        The initial value of s.
    eps : float, default 1e-10
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``sum`` (s).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras (lr 1e-3, eps 1e-7, s from 0.1) and optax (eps 1e-7, s from 0.1) have eps inside the root;
    CS231n has 1e-8 outside.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.Adagrad([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    lr_decay: float
    initial_accumulator_value: float
    eps: float
    _takes_rows = True
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-2,
            "lr_decay": 0.0,
            "initial_accumulator_value": 0.0,
            "eps": 1e-10,
            **L2,
        },
        "keras": {"lr": 1e-3, "initial_accumulator_value": 0.1, "eps": 1e-7, **DECOUPLED},
        "optax": {"initial_accumulator_value": 0.1, "eps": 1e-7},
        "cs231n": {"eps": 1e-8},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        lr_decay: float | None = None,
        weight_decay: float | None = None,
        initial_accumulator_value: float | None = None,
        eps: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _first_value(self, settings: Mapping[str, Any], name: str) -> float:
        return float(settings["initial_accumulator_value"])

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adagrad", ("sum",)

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "eps", "eps_inside"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        eps = settings["eps"]
        inside = self.convention in ("keras", "optax")
        return lr / (1 + (t - 1) * settings["lr_decay"]), *((0.0, eps) if inside else (eps, 0.0))


class Adadelta(Optimizer):
    r"""AdaDelta: steps in the units of the parameters, out of running averages of squares of gradients and steps.

    .. math::

        v &\leftarrow \rho v + (1 - \rho) g^2 \\
        d &= \sqrt{u + eps} \, / \sqrt{v + eps} \cdot g \\
        u &\leftarrow \rho u + (1 - \rho) d^2 \\
        p &\leftarrow p - lr \, d

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1
    rho : float in [0, 1), default 0.9
    eps : float, default 1e-6
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``square_avg`` (v) and ``acc_delta`` (u).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras has lr 1e-3, rho 0.95, eps 1e-7; optax is as PyTorch.

    References
    ----------
    Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.Adadelta([w]).step([np.array([3.0, -0.5])])
    >>> w.round(5)
    array([0.99684, 2.00316])
    """

    rho: float
    eps: float
    defaults: ClassVar = {
        "torch": {"lr": 1.0, "rho": 0.9, "eps": 1e-6, **L2},
        "keras": {"lr": 1e-3, "rho": 0.95, "eps": 1e-7, **DECOUPLED},
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        rho: float | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adadelta", ("square_avg", "acc_delta")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "eps", "decay", "gain"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        rho = settings["rho"]
        return lr, settings["eps"], rho, 1 - rho


class RMSprop(Optimizer):
    r"""RMSProp: steps divided by the root of a running average of squares.

    .. math:: v \leftarrow \alpha v + (1 - \alpha) g^2, \qquad p \leftarrow p - lr \, g / (\sqrt{v} + eps)

    Centered, the square of the running average of g is subtracted from v. With momentum ``b = momentum b + d``,
    ``d = g / (√v + eps)``, ``p -= lr b``; Nesterov's ``p -= lr (d + momentum b)``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
    alpha : float in [0, 1), default 0.99
    eps : float, default 1e-8
    weight_decay : float, default 0
    momentum : float, default 0
    centered : bool, default False
        For all groups. The variance is never below 0, where PyTorch's may round to that and give NaN.
    nesterov : bool, default False
        Needs momentum.
    bias_correction : bool, default False
        Whether the averages, of g too if centered, are divided by ``1 - alpha^t``, as optax can do.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``square_avg`` (v before that subtraction), ``grad_avg`` if centered, ``momentum_buffer`` (b) with momentum.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras (lr 1e-3, alpha 0.9, eps 1e-7) and optax (alpha 0.9) have eps inside the root, and lr inside b.
    CS231n is as PyTorch.

    ``state_dtype="bfloat16"`` stores v and b in half the memory, ``"uint8"`` in a quarter: see the options below.

    References
    ----------
    Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012; centered: Graves, "Generating sequences with recurrent neural
    networks", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.RMSprop([w], lr=0.01).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.9, 2.1])

    With v in 8 bits:

    >>> w = np.ones((64, 64), np.float32)
    >>> opt = nf.optim.RMSprop([w], state_dtype="uint8")
    >>> opt.state["square_avg"][0].nbytes, w.nbytes
    (4160, 16384)
    """

    alpha: float
    eps: float
    momentum: float
    centered: bool
    nesterov: bool
    bias_correction: bool
    _packs = True
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-2,
            "alpha": 0.99,
            "eps": 1e-8,
            "momentum": 0.0,
            "centered": False,
            "nesterov": False,
            "bias_correction": False,
            **L2,
        },
        "keras": {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7, **DECOUPLED},
        "optax": {"alpha": 0.9},
        "cs231n": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        alpha: float | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        centered: bool | None = None,
        nesterov: bool | None = None,
        bias_correction: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        self._same_for_all("centered")
        if self.centered and self._is_packed:
            raise ValueError(
                f"centered must be False where state_dtype is {self._state_dtype!r}, got True: "
                "the difference of v and a square needs more digits"
            )
        for settings in ({}, *self.groups):
            own = {**vars(self), **settings}
            if own["nesterov"] and own["momentum"] == 0:
                raise ValueError("nesterov needs momentum above 0")
        states = ["square_avg"] + ["grad_avg"] * self.centered
        name = "rmsprop" + "_centered" * self.centered
        if self._any("momentum"):
            return f"{name}_momentum", (*states, "momentum_buffer")
        return name, tuple(states)

    def _hyperparameters(self) -> tuple[str, ...]:
        names = ["lr", "eps", "eps_inside", "decay", "gain"]
        if self._rule_name.endswith("momentum"):
            names += ["momentum", "momentum_gain", "nesterov"]
        return (*names, *["correction"] * self.centered)

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        alpha, eps = settings["alpha"], settings["eps"]
        inside = self.convention in ("keras", "optax")
        eps, eps_inside = (0.0, eps) if inside else (eps, 0.0)
        correction = root = 1.0
        if settings[
            "bias_correction"
        ]:  # g / (√(c v + e) + eps) = g / √c / (√(v + e / c) + eps / √c)
            correction = 1 / (1 - alpha**t)
            root = sqrt(correction)
            eps, eps_inside = eps / root, eps_inside / correction
        if self._rule_name == "rmsprop":
            return lr / root, eps, eps_inside, alpha, 1 - alpha
        centered = (correction,) if self.centered else ()
        if not self._rule_name.endswith("momentum"):
            return lr / root, eps, eps_inside, alpha, 1 - alpha, *centered
        outer, gain = (1.0, lr / root) if inside else (lr, 1 / root)
        momentum = settings["momentum"], gain, float(settings["nesterov"])
        return outer, eps, eps_inside, alpha, 1 - alpha, *momentum, *centered
