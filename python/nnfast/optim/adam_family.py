"""Adam and what was made of it: AdamW, Adamax, NAdam, RAdam."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import DECOUPLED, L2, Options

_BETAS = {"betas": (0.9, 0.999), "eps": 1e-8}
_ADAM = {**_BETAS, "eps_root": 0.0}


class Adam(Optimizer):
    r"""Adam: steps scaled by running averages of the gradient and of its square.

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \qquad \hat m = m / (1 - \beta_1^t) \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad \hat v = v / (1 - \beta_2^t) \\
        p &\leftarrow p - lr \, \hat m / (\sqrt{\hat v} + eps)

    The corrections are computed in double precision. AMSGrad takes the largest v so far.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
    amsgrad : bool, default False
        For all groups.
    bias_correction : bool, default True
        Whether m and v are corrected; without, ``p -= lr m / (√v + eps)``, in every convention.
    eps_root : float, default 0
        Added to what is under the root, √(v̂ + eps_root), as optax has it: for gradients of the step itself.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m), ``exp_avg_sq`` (v), and ``max_exp_avg_sq`` of AMSGrad.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras (eps 1e-7) adds eps to √v before its correction, and eps_root to v. optax's AMSGrad takes the
    largest v̂, the others the largest v and correct that. CS231n is as PyTorch.

    ``state_dtype="bfloat16"`` stores m and v in half the memory, ``"uint8"`` in a quarter: see the options below.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", 2015; Reddi, Kale, Kumar, "On the convergence of Adam and
    beyond", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.Adam({"w": w}, lr=0.1)
    >>> opt.step({"w": np.array([3.0, -0.5])})
    >>> w.round(6)
    array([0.9, 2.1])

    With m and v in 8 bits:

    >>> w = np.ones((64, 64), np.float32)
    >>> opt = nf.optim.Adam([w], state_dtype="uint8")
    >>> opt.state["exp_avg_sq"][0].nbytes, w.nbytes
    (4160, 16384)
    """

    betas: tuple[float, float]
    eps: float
    eps_root: float
    amsgrad: bool
    bias_correction: bool
    _takes_rows = True
    _packs = True
    defaults: ClassVar = {
        "torch": {"lr": 1e-3, **_ADAM, "amsgrad": False, "bias_correction": True, **L2},
        "keras": {"eps": 1e-7, **DECOUPLED},
        "optax": {},
        "cs231n": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        amsgrad: bool | None = None,
        bias_correction: bool | None = None,
        eps_root: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        self._same_for_all("amsgrad")
        if self.amsgrad:
            return "amsgrad", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        return "adam", ("exp_avg", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        names = "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2"
        return (*names, "max_correction") if self._rule_name == "amsgrad" else names

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        return self._core.row(self.__dict__, t, lr, settings)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - lr weight_decay``, then Adam's step.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 1e-2
        Decoupled, unless options say otherwise; not negative.
    amsgrad : bool, default False
        For all groups.
    bias_correction : bool, default True
        As of Adam.
    eps_root : float, default 0
        As of Adam.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m), ``exp_avg_sq`` (v), and ``max_exp_avg_sq`` of AMSGrad.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: weight_decay is 4e-3 in Keras and 1e-4 in optax; otherwise as Adam. CS231n has none.

    ``state_dtype="bfloat16"`` stores m and v in half the memory, ``"uint8"`` in a quarter: see the options below.

    References
    ----------
    Loshchilov, Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w, b = np.ones(2), np.ones(1)
    >>> opt = nf.optim.AdamW([{"params": [w]}, {"params": [b], "weight_decay": 0}], lr=0.1)
    >>> opt.step([np.zeros(2), np.zeros(1)])
    >>> w, b
    (array([0.999, 0.999]), array([1.]))

    With m and v in 8 bits:

    >>> w = np.ones((64, 64), np.float32)
    >>> opt = nf.optim.AdamW([w], state_dtype="uint8")
    >>> opt.state["exp_avg_sq"][0].nbytes, w.nbytes
    (4160, 16384)
    """

    defaults: ClassVar = {
        "torch": {
            "lr": 1e-3,
            **_ADAM,
            "amsgrad": False,
            "bias_correction": True,
            "weight_decay": 1e-2,
            "decoupled_weight_decay": True,
        },
        "keras": {"eps": 1e-7, "weight_decay": 4e-3},
        "optax": {"weight_decay": 1e-4},
    }


class Adamax(Optimizer):
    """Adamax: Adam with the largest gradient of late in place of the root of the average of squares.

    ``m = beta1 m + (1 - beta1) g``, ``u = max(beta2 u, |g| + eps)``, ``p -= lr / (1 - beta1^t) · m / u``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 2e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
    bias_correction : bool, default True
        Whether m is corrected: the division by ``1 - beta1^t``.
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``exp_avg`` (m) and ``exp_inf`` (u).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    By convention: Keras (lr 1e-3, eps 1e-7) divides by u + eps, with u of gradients alone. optax is as PyTorch.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.Adamax([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    betas: tuple[float, float]
    eps: float
    bias_correction: bool
    defaults: ClassVar = {
        "torch": {"lr": 2e-3, **_BETAS, "bias_correction": True, **L2},
        "keras": {"lr": 1e-3, "eps": 1e-7, **DECOUPLED},
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        bias_correction: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "adamax", ("exp_avg", "exp_inf")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "lr", "eps", "eps_inside", "decay1", "gain1", "decay2"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        eps = settings["eps"]
        places = (eps, 0.0) if self.convention == "keras" else (0.0, eps)
        left = 1 - beta1**t if settings["bias_correction"] else 1.0
        return lr / left, *places, beta1, 1 - beta1, beta2


class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov's momentum.

    With m and v as Adam's, momentum_decay ψ, and Π the product of all μ so far

    .. math::

        \mu_t &= \beta_1 (1 - 0.96^{t \psi} / 2) \\
        p &\leftarrow p - lr \left(\frac{\mu_{t+1} m}{1 - \Pi \mu_{t+1}} + \frac{(1 - \mu_t) g}{1 - \Pi}\right)
            / (\sqrt{\hat v} + eps)

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 2e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
    momentum_decay : float, default 4e-3
    eps_root : float, default 0
        Added to v̂ under the root, as optax has it.
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
    By convention: Keras has lr 1e-3, eps 1e-7 and momentum_decay 1. optax has ``beta1 m / (1 - beta1^(t + 1)) +
    (1 - beta1) g / (1 - beta1^t)`` above the root.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.NAdam([w], lr=0.1, convention="optax").step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.852632, 2.147368])
    """

    betas: tuple[float, float]
    eps: float
    eps_root: float
    momentum_decay: float
    defaults: ClassVar = {
        "torch": {"lr": 2e-3, **_ADAM, "momentum_decay": 4e-3, **L2},
        "keras": {"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1.0, **DECOUPLED},
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        momentum_decay: float | None = None,
        eps_root: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)
        self._carried: list[float] = [1.0] * max(1, len(self.groups))

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "nadam", ("exp_avg", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        return (
            "gradient_lr",
            "average_lr",
            "eps",
            "eps_root",
            "correction",
            "decay1",
            "gain1",
            "decay2",
            "gain2",
        )

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        if self.convention == "optax":
            by_gradient = (1 - beta1) / (1 - beta1**t)
            by_average = beta1 / (1 - beta1 ** (t + 1))
        else:
            mu, after = (self._mu(k, beta1, settings["momentum_decay"]) for k in (t, t + 1))
            product *= mu
            by_gradient = (1 - mu) / (1 - product)
            by_average = after / (1 - product * after)
        left2 = 1 - beta2**t
        places = settings["eps"], settings["eps_root"] * left2, left2**-0.5
        averages = beta1, 1 - beta1, beta2, 1 - beta2
        return lr * by_gradient, lr * by_average, *places, *averages

    def _done(self, t: int) -> None:
        super()._done(t)
        for i, settings in enumerate(self._checked):
            self._carried[i] = self._next_product(t, settings, self._carried[i])

    def _next_product(self, t: int, settings: Mapping[str, Any], product: float) -> float:
        return product * self._mu(t, settings["betas"][0], settings["momentum_decay"])

    @staticmethod
    def _mu(t: int, beta1: float, decay: float) -> float:
        return float(beta1 * (1 - 0.5 * 0.96 ** (t * decay)))

    def _rule_scalars(self) -> dict[str, list[float]]:
        return {"mu_product": self._carried}

    def _take_scalars(self, given: dict[str, Any]) -> None:
        super()._take_scalars(given)
        self._carried = given["mu_product"]


class RAdam(Optimizer):
    r"""RAdam: Adam, with steps of plain momentum until the average of squares is to be trusted.

    With m and v as Adam's

    .. math::

        \rho_\infty &= 2 / (1 - \beta_2) - 1, \qquad \rho = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        r^2 &= \frac{(\rho - 4)(\rho - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho} \\
        p &\leftarrow p - lr \, r \, \hat m \sqrt{1 - \beta_2^t} \, / (\sqrt{v} + eps)

    While ρ is at most threshold the step is ``p -= lr m̂``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
    eps_root : float, default 0
        Added to v under the root, as optax has it.
    threshold : float, default 5
        At least 4.
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
    By convention: optax adds eps to √v̂ and eps_root to v̂, and trusts v from ρ = threshold on.

    References
    ----------
    Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> nf.optim.RAdam([w], lr=0.1).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([0.7 , 2.05])
    """

    betas: tuple[float, float]
    eps: float
    eps_root: float
    threshold: float
    defaults: ClassVar = {"torch": {"lr": 1e-3, **_ADAM, "threshold": 5.0, **L2}, "optax": {}}

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        eps_root: float | None = None,
        threshold: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "radam", ("exp_avg", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        names = "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2"
        return (*names, "rectified")

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        left1, left2 = 1 - beta1**t, 1 - beta2**t
        rate, correction, rectified = lr / left1, 1.0, False
        eps_root, threshold = settings["eps_root"], settings["threshold"]
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * t * beta2**t / left2
        if rho > threshold or (rho == threshold and self.convention == "optax"):
            rectified = True
            rate *= sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            if self.convention == "optax":
                correction, eps_root = left2**-0.5, eps_root * left2
            else:
                rate *= sqrt(left2)
        averages = beta1, 1 - beta1, beta2, 1 - beta2
        return rate, settings["eps"], eps_root, correction, *averages, float(rectified)
