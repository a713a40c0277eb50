"""Softmax, its logarithm and logsumexp with their gradients: generalised ufuncs over an axis (the last by default)."""

import numpy as np

from nnfast._load import _core

log_softmax: np.ufunc = _core.log_softmax
log_softmax_backward: np.ufunc = _core.log_softmax_backward
logsumexp: np.ufunc = _core.logsumexp
logsumexp_backward: np.ufunc = _core.logsumexp_backward
softmax: np.ufunc = _core.softmax
softmax_backward: np.ufunc = _core.softmax_backward

# doctest does not look into ufuncs by itself.
__test__ = {
    ufunc.__name__: ufunc.__doc__
    for ufunc in (
        log_softmax,
        log_softmax_backward,
        logsumexp,
        logsumexp_backward,
        softmax,
        softmax_backward,
    )
}
