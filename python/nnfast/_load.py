"""Loads the compiled module, with an OpenMP runtime that lets waiting threads sleep where OpenMP is asked for.

libgomp keeps its workers spinning after a parallel region. NumPy's BLAS has workers that spin too, and in a training
loop, where their products and our kernels alternate, each pool then takes the other's cores: a relu between two matrix
products was measured a thousand times slower. libgomp reads OMP_WAIT_POLICY once, when it is loaded; so with
NNFAST_THREADING=openmp the variable is set for just that moment, unless the user has set it, and then put back. Where
somebody else has loaded the same libgomp before, it comes too late. The default threading (cpp/runtime/helpers.hpp)
needs none of this, and then nothing is touched: the runtime may be shared with others who count on its defaults.
"""

import os

# First: NumPy refuses a second interpreter of the process, where our module's initialisation would wait for ever.
import numpy as _numpy  # noqa: F401

_VARIABLE = "OMP_WAIT_POLICY"

_set_here = os.environ.get("NNFAST_THREADING") == "openmp" and _VARIABLE not in os.environ
if _set_here:
    os.environ[_VARIABLE] = "passive"
try:
    from nnfast import _core
finally:
    if _set_here:
        del os.environ[_VARIABLE]

__all__ = ["_core"]
