"""Loads the compiled module, with an OpenMP runtime that lets waiting threads sleep where OpenMP is asked for.

libgomp keeps its workers spinning after a parallel region. NumPy's BLAS has workers that spin too, and in a training
loop, where their products and our kernels alternate, each pool then takes the other's cores: a relu between two matrix
products was measured a thousand times slower. libgomp reads OMP_WAIT_POLICY once, when it is loaded; so with
NNFAST_THREADING=openmp the variable is set for just that moment, unless the user has set it, and then put back. Where
somebody else has loaded the same libgomp before, it comes too late. The default threading (cpp/runtime/helpers.hpp)
needs none of this, and then nothing is touched: the runtime may be shared with others who count on its defaults.

LLVM's OpenMP may abort the process, or never come back, where OMP_NUM_THREADS is no number; such a value is taken away
while the module is loaded.
"""

import os
import re

# First: NumPy refuses a second interpreter of the process, where our module's initialisation would wait for ever.
import numpy as _numpy  # noqa: F401

# For the moment of loading: the value to set, or None to take the variable away.
_for_openmp: dict[str, str | None] = {}
if os.environ.get("NNFAST_THREADING") == "openmp" and "OMP_WAIT_POLICY" not in os.environ:
    _for_openmp["OMP_WAIT_POLICY"] = "passive"
if not re.fullmatch(r"\s*\d[\s\d,]*", os.environ.get("OMP_NUM_THREADS", "1"), re.ASCII):
    _for_openmp["OMP_NUM_THREADS"] = None


def _put(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_before = {name: os.environ.get(name) for name in _for_openmp}
_put(_for_openmp)
try:
    from nnfast import _core
finally:
    _put(_before)

__all__ = ["_core"]
