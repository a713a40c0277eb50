"""Rprop, for whole batches, and ASGD, which averages what the noise of small ones leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from nnfast.optim.configured import Values
from nnfast.optim.groups import Params
from nnfast.optim.optimizer import Optimizer
from nnfast.optim.settings import L2, Options


class Rprop(Optimizer):
    """Rprop: steps of a size of their own for each weight, by the sign of the gradient alone. For whole batches.

    Where g has the sign of the last one, ``s = min(s etas[1], step_sizes[1])``; where it has the other,
    ``s = max(s etas[0], step_sizes[0])`` and g counts as 0; then ``p -= s sign(g)``.

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
        The initial value of s: a later change has no effect.
    etas : (float, float), default (0.5, 1.2)
        One in (0, 1) and one above 1.
    step_sizes : (float, float), default (1e-6, 50)
        The least and the largest s.
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``prev`` (the last g, or 0) and ``step_size`` (s).
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    Of tiny gradients the signs are compared, not their product, which is 0 where it underflows. optax makes each step
    one call later.

    References
    ----------
    Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.Rprop([w], lr=0.1)
    >>> opt.step([np.array([3.0, -0.5])]); opt.step([np.array([3.0, 0.5])])
    >>> w
    array([0.78, 2.1 ])
    """

    etas: tuple[float, float]
    step_sizes: tuple[float, float]
    defaults: ClassVar = {
        "torch": {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0), **L2}
    }

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        etas: tuple[float, float] | None = None,
        step_sizes: tuple[float, float] | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _first_value(self, settings: Mapping[str, Any], name: str) -> float:
        return float(settings["lr"]) if name == "step_size" else 0.0

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "rprop", ("prev", "step_size")

    def _hyperparameters(self) -> tuple[str, ...]:
        return "etaminus", "etaplus", "step_size_min", "step_size_max"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        return *settings["etas"], *settings["step_sizes"]


class ASGD(Optimizer):
    r"""Averaged stochastic gradient descent: descent with a falling rate, and the average of the parameters since t0.

    With lambd λ

    .. math::

        \eta &= lr / (1 + \lambda \, lr \, (t - 1))^\alpha \\
        p &\leftarrow (1 - \lambda \eta) p - \eta g \\
        a &\leftarrow a + (p - a) / \max(1, t - 1 - t_0)

    Parameters
    ----------
    params : sequence or mapping of ndarrays, or sequence of groups
        See the module. They share no memory with each other.
    lr : float, default 1e-2
    lambd : float, default 1e-4
        How strongly p decays, and how fast the rate falls; not negative.
    alpha : float in [0, 1), default 0.75
        The power that the rate falls by.
    t0 : float, default 1e6
        The step at which the average begins; not negative.
    weight_decay : float, default 0
    **options
        The options of all rules, below.

    Attributes
    ----------
    state : dict
        ``ax`` (a), what the network is to be evaluated with.
    step_count, skipped_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range, an array is read-only or shares memory with another.

    Notes
    -----
    PyTorch keeps eta from step to step and in float32: a changed lr counts one step later there.

    References
    ----------
    Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([1.0, 2.0])
    >>> opt = nf.optim.ASGD([w], lr=0.1, t0=0)
    >>> for step in range(3):
    ...     opt.step([np.array([1.0, 0.0])])
    >>> w.round(3), opt.state["ax"][0].round(3)
    (array([0.7, 2. ]), array([0.75, 2.  ]))
    """

    lambd: float
    alpha: float
    t0: float
    defaults: ClassVar = {"torch": {"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, **L2}}

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        lambd: float | None = None,
        alpha: float | None = None,
        t0: float | None = None,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, locals(), options)

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        return "asgd", ("ax",)

    def _hyperparameters(self) -> tuple[str, ...]:
        return "eta", "decay", "mu"

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        eta = lr / (1 + settings["lambd"] * lr * (t - 1)) ** settings["alpha"]
        return eta, 1 - settings["lambd"] * eta, 1 / max(1.0, t - 1 - settings["t0"])
