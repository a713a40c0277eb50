"""Loads the compiled module with an OpenMP runtime that lets waiting threads sleep, should OpenMP be chosen.

libgomp keeps its workers spinning after a parallel region. NumPy's BLAS has workers that spin too, and in a training
loop, where their products and our kernels alternate, each pool then takes the other's cores: a relu between two matrix
products was measured a thousand times slower. libgomp reads OMP_WAIT_POLICY once, when it is loaded; so the variable is
set for just that moment, unless the user has set it, and then put back. Where somebody else has loaded the same libgomp
before, it comes too late; the default threading (cpp/runtime/helpers.hpp) does not depend on it.
"""

import os

_VARIABLE = "OMP_WAIT_POLICY"

_set_here = _VARIABLE not in os.environ
if _set_here:
    os.environ[_VARIABLE] = "passive"
try:
    from nnfast import _core
finally:
    if _set_here:
        del os.environ[_VARIABLE]

__all__ = ["_core"]
