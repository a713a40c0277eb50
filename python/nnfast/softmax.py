"""Softmax and its gradient, generalised ufuncs over an axis (``axis=``, the last by default)."""

import numpy as np

from nnfast._load import _core

softmax: np.ufunc = _core.softmax
softmax_backward: np.ufunc = _core.softmax_backward

# doctest does not look into ufuncs by itself.
__test__ = {ufunc.__name__: ufunc.__doc__ for ufunc in (softmax, softmax_backward)}
