"""Statistics of a step of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

SUMS = 5  # of squares and counts, for each parameter


@dataclass(frozen=True)
class StepStats:
    """Statistics of a step, one for each parameter, in their order.

    Norms are Euclidean, accumulated in float64 in the pass that updates the parameters.

    Parameters
    ----------
    grad_norm : ndarray of float64
        Norm of the gradient with what was accumulated, times grad_scale, before clipping and weight decay.
    update_norm : ndarray of float64
        Norm of the change of the parameter.
    param_norm : ndarray of float64
        Norm of the parameter after the step; NaN where the step was skipped.
    nans : ndarray of int64
        Number of gradient elements that are NaN.
    infinities : ndarray of int64
        Number of gradient elements that are infinite.
    skipped : bool
        Whether the step was skipped, as a gradient was not finite and skip_nonfinite is set.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> opt = nf.optim.SGD([np.array([3.0, 4.0])], lr=0.1)
    >>> stats = opt.step([np.array([0.0, 1.0])], stats=True)
    >>> stats.grad_norm, stats.update_norm.round(6), stats.ratio.round(3)
    (array([1.]), array([0.1]), array([0.02]))
    """

    grad_norm: NDArray[np.float64]
    update_norm: NDArray[np.float64]
    param_norm: NDArray[np.float64]
    nans: NDArray[np.int64]
    infinities: NDArray[np.int64]
    skipped: bool

    @property
    def ratio(self) -> NDArray[np.float64]:
        """update_norm / param_norm: about 1e-3 while a network trains well."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.update_norm / self.param_norm

    @property
    def global_grad_norm(self) -> float:
        """The norm of all gradients as one vector."""
        largest = float(self.grad_norm.max(initial=0))
        if not 0 < largest < inf:
            return largest
        return largest * sqrt(float(np.square(self.grad_norm / largest).sum()))


def stats_of(sums: NDArray[np.float64], skipped: bool) -> StepStats:
    grad, update, param = sums[:, :3].T
    if skipped:
        param = np.full_like(param, np.nan)
    counts = sums[:, 3:].astype(np.int64).T
    return StepStats(grad, update, param, counts[0], counts[1], skipped)
