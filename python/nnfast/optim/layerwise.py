"""Rules whose steps are in proportion to the norm of each parameter, for large batches: LAMB and LARS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.direction import DirectionDecay
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import L2, Options


def _trust(coefficient: float, eps: float) -> Values:
    """The hyperparameters of the trust ratio; the ratio itself, here 1, is what the kernel finds."""
    return 1.0, coefficient, eps


class LAMB(DirectionDecay):
    r"""LAMB: Adam's step, scaled to the norm of each parameter.

    With m and v as Adam's, and weight_decay λ

    .. math::

        u &= \hat m / (\sqrt{\hat v} + eps) + \lambda p \\
        p &\leftarrow p - lr \, \|p\| / \|u\| \cdot u

    Where a norm is 0 the step is ``p -= lr u``. The norms are of each array by itself, accumulated in float64.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Each in [0, 1).
    eps : float, default 1e-6
    weight_decay : float, default 1e-2
        Part of u; with ``decoupled_weight_decay=False`` of the gradient.
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
    PyTorch has no LAMB: the default is the paper's, with the identity for φ. By convention: optax has weight_decay 0;
    Keras has eps 1e-7, and no decay in u: ``p *= 1 - lr weight_decay`` comes first, with weight_decay 0.

    References
    ----------
    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2020.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([3.0, 4.0])
    >>> nf.optim.LAMB([w], lr=0.1, weight_decay=0).step([np.array([3.0, -0.5])])
    >>> w.round(6)
    array([2.646446, 4.353553])
    """

    betas: tuple[float, float]
    eps: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1e-3,
            "betas": (0.9, 0.999),
            "eps": 1e-6,
            "weight_decay": 1e-2,
            "decoupled_weight_decay": True,
        },
        "keras": {"eps": 1e-7, "weight_decay": 0.0},
        "optax": {"weight_decay": 0.0},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "lamb", ("exp_avg", "exp_avg_sq")

    def _hyperparameters(self) -> tuple[str, ...]:
        trust = "trust", "trust_coefficient", "trust_eps"
        averages = "decay1", "gain1", "decay2", "gain2"
        return *trust, "lr", "scale", "decay", "eps", "correction", *averages

    def _joins_direction(self, settings: Mapping[str, Any]) -> bool:
        return self.convention != "keras" and super()._joins_direction(settings)

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        beta1, beta2 = settings["betas"]
        averages = beta1, 1 - beta1, beta2, 1 - beta2
        decay = self._direction_decay(settings)
        of_u = 1 / (1 - beta1**t), decay, settings["eps"], (1 - beta2**t) ** -0.5
        return *_trust(1.0, 0.0), lr, *of_u, *averages


class LARS(Optimizer):
    r"""LARS: momentum, with the gradient scaled to the norm of each parameter.

    With momentum μ, weight_decay λ and trust_coefficient c

    .. math::

        u &= g + \lambda p, \qquad trust = c \, \|p\| / (\|u\| + eps) \\
        v &\leftarrow \mu v + lr \, trust \, u, \qquad p \leftarrow p - v

    Nesterov's is ``p -= lr trust u + momentum v``. trust is 1 where a norm is 0; the norms are of each array by itself,
    accumulated in float64.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1
    momentum : float, default 0.9
    weight_decay : float, default 0
    nesterov : bool, default False
        Whether the step is Nesterov's.
    trust_coefficient : float, default 1e-3
        The norm of trust u is this share of ‖p‖; not negative.
    eps : float, default 0
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
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch has no LARS: the default is optax's. The paper has ``‖g‖ + weight_decay ‖p‖`` in place of ``‖u‖``.

    References
    ----------
    You, Gitman, Ginsburg, "Large batch training of convolutional networks", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([3.0, 4.0])
    >>> nf.optim.LARS([w], lr=1.0, trust_coefficient=0.1).step([np.array([0.0, -2.0])])
    >>> w
    array([3. , 4.5])
    """

    momentum: float
    nesterov: bool
    trust_coefficient: float
    eps: float
    defaults: ClassVar = {
        "torch": {
            "lr": 1.0,
            "momentum": 0.9,
            "nesterov": False,
            "trust_coefficient": 1e-3,
            "eps": 0.0,
            **L2,
        },
        "optax": {},
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        nesterov: bool | None = None,
        trust_coefficient: float | None = None,
        eps: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "lars", ("momentum_buffer",)

    def _hyperparameters(self) -> tuple[str, ...]:
        return "trust", "trust_coefficient", "trust_eps", "lr", "momentum", "nesterov"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        trust = _trust(settings["trust_coefficient"], settings["eps"])
        return *trust, lr, settings["momentum"], float(settings["nesterov"])
