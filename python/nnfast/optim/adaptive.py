"""Rules of Adam's kind that fewer people use: AdaBelief, Yogi, Adan; and FTRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import DECOUPLED, L2, Options


class AdaBelief(Optimizer):
    r"""AdaBelief: Adam with the average square of what the gradient differs from its own average by.

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \qquad \hat m = m / (1 - \beta_1^t) \\
        s &\leftarrow \beta_2 s + (1 - \beta_2) (g - m)^2 + eps_{root}, \qquad \hat s = s / (1 - \beta_2^t) \\
        p &\leftarrow p - lr \, \hat m / (\sqrt{\hat s} + eps)

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-16
    eps_root : float, default 1e-16
        Added to s at every step; not negative.
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m) and ``exp_avg_var`` (s).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has no AdaBelief: the default is that of the authors' code without its rectification, whose one eps has both
    places. optax is the same.

    References
    ----------
    Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", 2020.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.AdaBelief([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.888889, 2.111111])
    """

    betas: tuple[float, float]
    eps: float
    eps_root: float
    defaults: ClassVar = {
        "torch": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-16, "eps_root": 1e-16, **L2},
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        eps_root: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adabelief", ("exp_avg", "exp_avg_var")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        correction = (1 - beta2**t) ** -0.5
        averages = beta1, 1 - beta1, beta2, 1 - beta2
        return lr / (1 - beta1**t), settings["eps"], settings["eps_root"], correction, *averages


class Yogi(Optimizer):
    r"""Yogi: Adam whose average of squares moves by at most a share of the square, so that rates rise slowly.

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \qquad \hat m = m / (1 - \beta_1^t) \\
        v &\leftarrow v - (1 - \beta_2) \operatorname{sign}(v - g^2) g^2, \qquad \hat v = v / (1 - \beta_2^t) \\
        p &\leftarrow p - lr \, \hat m / (\sqrt{\hat v} + eps)

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-3
    weight_decay : float, default 0
    initial_accumulator_value : float, default 1e-6
        The initial value of m and v; not negative.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m) and ``exp_avg_sq`` (v).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has no Yogi: the default is optax's, with the paper's lr.

    References
    ----------
    Zaheer et al., "Adaptive methods for nonconvex optimization", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.Yogi([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.900039, 2.0996  ])
    """

    betas: tuple[float, float]
    eps: float
    initial_accumulator_value: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-2,
            "betas": (0.9, 0.999),
            "eps": 1e-3,
            "initial_accumulator_value": 1e-6,
            **L2,
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
        initial_accumulator_value: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _first_value(self, settings: Mapping[str, Any], name: str) -> float:
        return float(settings["initial_accumulator_value"])

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "yogi", ("exp_avg", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "eps", "correction", "decay1", "gain1", "gain2"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        correction = (1 - beta2**t) ** -0.5
        return lr / (1 - beta1**t), settings["eps"], correction, beta1, 1 - beta1, 1 - beta2


class Adan(Optimizer):
    r"""Adan: Adam with Nesterov's momentum, out of averages of gradients and of their differences.

    With d, what g differs from that of the last step by (0 at the first),

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \qquad \hat m = m / (1 - \beta_1^t) \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) d, \qquad \hat v = v / (1 - \beta_2^t) \\
        n &\leftarrow \beta_3 n + (1 - \beta_3) (g + \beta_2 d)^2, \qquad \hat n = n / (1 - \beta_3^t) \\
        p &\leftarrow p - lr \, (\hat m + \beta_2 \hat v) / (\sqrt{\hat n} + eps)

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.98, 0.92)
        beta1 and beta2, each in [0, 1).
    beta3 : float in [0, 1), default 0.99
        How much of n stays at each step.
    eps : float, default 1e-8
    eps_root : float, default 0
        Added to n̂, inside the root; not negative.
    weight_decay : float, default 0
        Decoupled, unless options say otherwise.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m), ``exp_avg_diff`` (v), ``exp_avg_sq`` (n) and ``last_grad``.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has no Adan: the default is the authors' code, with ``no_prox=True`` where there is weight decay. By
    convention: optax has 1 - beta2 in place of beta2 where it multiplies d and v̂, and eps_root 1e-8.

    References
    ----------
    Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", 2022.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.Adan([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    betas: tuple[float, float]
    beta3: float
    eps: float
    eps_root: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-3,
            "betas": (0.98, 0.92),
            "beta3": 0.99,
            "eps": 1e-8,
            "eps_root": 0.0,
            "weight_decay": 0.0,
            "decoupled_weight_decay": True,
        },
        "optax": {"eps_root": 1e-8},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        beta3: float | None = None,
        eps: float | None = None,
        eps_root: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adan", ("exp_avg", "exp_avg_diff", "exp_avg_sq", "last_grad")

    def _hyperparameters(self) -> tuple[str, ...]:
        averages = "decay1", "gain1", "decay2", "gain2", "decay3", "gain3"
        return "lr", "difference_lr", "eps", "eps_root", "correction", *averages, "difference"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        (beta1, beta2), beta3 = settings["betas"], settings["beta3"]
        difference = 1 - beta2 if self.convention == "optax" else beta2
        rates = lr / (1 - beta1**t), lr * difference / (1 - beta2**t)
        first = t == 1  # no difference yet
        gains = (0.0, 0.0) if first else (1 - beta2, difference)
        averages = beta1, 1 - beta1, beta2, gains[0], beta3, 1 - beta3
        correction = 1 / (1 - beta3**t)
        return *rates, settings["eps"], settings["eps_root"], correction, *averages, gains[1]


class Ftrl(Optimizer):
    r"""FTRL-Proximal: follow the regularized leader, whose L1 penalty makes weights exactly 0.

    With l2_shrinkage σ

    .. math::

        n' &= n + g^2 \\
        z &\leftarrow z + g + 2 \sigma p - (\sqrt{n'} - \sqrt n) \, p / lr \\
        p &\leftarrow \frac{\operatorname{clip}(z, -l_1, l_1) - z}{(\sqrt{n'} + \beta) / lr + 2 l_2}

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
        Above 0 at every step.
    initial_accumulator_value : float, default 0.1
        The initial value of n; not negative.
    l1, l2 : float, default 0
        Strengths of the penalties; not negative.
    l2_shrinkage : float, default 0
        Strength of an L2 penalty that joins the gradient in z, and not in n; not negative.
    beta : float, default 0
        Added to √n'; not negative.
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``accumulator`` (n) and ``linear`` (z).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch and optax have no FTRL: the default is Keras's, whose learning_rate_power is -1/2 here. p follows from n and
    z alone, so that what else is written to it is soon forgotten.

    References
    ----------
    McMahan et al., "Ad click prediction: a view from the trenches", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([0.0, 0.0])
    >>> opt = nf.optim.Ftrl([w], lr=0.1, l1=1.0)
    >>> opt.step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([-0.066299,  0.      ])
    """

    initial_accumulator_value: float
    l1: float
    l2: float
    l2_shrinkage: float
    beta: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-3,
            "initial_accumulator_value": 0.1,
            "l1": 0.0,
            "l2": 0.0,
            "l2_shrinkage": 0.0,
            "beta": 0.0,
            **L2,
        },
        "keras": DECOUPLED,
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        initial_accumulator_value: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
        l2_shrinkage: float | None = None,
        beta: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _first_value(self, settings: Mapping[str, Any], name: str) -> float:
        return float(settings["initial_accumulator_value"]) if name == "accumulator" else 0.0

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "ftrl", ("accumulator", "linear")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "inverse_lr", "l1", "quadratic", "shrinkage"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        if lr == 0:
            raise ValueError("lr must be positive for Ftrl, which divides by it, got 0.0")
        quadratic = 2 * settings["l2"] + settings["beta"] / lr
        return 1 / lr, settings["l1"], quadratic, 2 * settings["l2_shrinkage"]
