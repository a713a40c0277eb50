"""SciPy's special functions: one core, ufuncs with out=."""

import numpy as np
import scipy
from scipy import special

from bench.case import Arrays, Forms

NAME, VERSION = "SciPy", scipy.__version__


def set_threads(n: int) -> bool:
    """One thread, whatever is asked for."""
    return True


def sigmoid(arrays: Arrays, values: dict[str, float]) -> Forms:
    x = arrays["x"]
    out = np.empty_like(x)
    return {"out": lambda: special.expit(x, out=out)}


def logsigmoid(arrays: Arrays, values: dict[str, float]) -> Forms:
    x = arrays["x"]
    out = np.empty_like(x)
    return {"out": lambda: special.log_expit(x, out=out)}


def softmax(arrays: Arrays, values: dict[str, float]) -> Forms:
    x = arrays["x"]
    return {"allocating": lambda: special.softmax(x, axis=-1)}


def factored_logsumexp(arrays: Arrays, values: dict[str, float]) -> Forms:
    x, b = arrays["x"], arrays["b"]
    return {"allocating": lambda: special.logsumexp(x, axis=-1, b=b, return_sign=True)}


OPERATIONS = {
    "logsigmoid": logsigmoid,
    "logsumexp of factors": factored_logsumexp,
    "sigmoid": sigmoid,
    "softmax": softmax,
}
