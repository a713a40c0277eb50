"""thinc: its CPU operations, one core."""

import numpy as np
import thinc
from thinc.backends import NumpyOps

from bench.case import Arrays, Forms

NAME, VERSION = "thinc", thinc.__version__
ops = NumpyOps()


def set_threads(n: int) -> bool:
    """One thread, whatever is asked for."""
    return True


def maxout(arrays: Arrays, values: dict[str, float]) -> Forms:
    x = arrays["x"]
    groups = x.reshape(len(x), -1, int(values["pieces"]))
    return {"allocating": lambda: ops.maxout(groups)}


def maxout_backward(arrays: Arrays, values: dict[str, float]) -> Forms:
    dy, which = arrays["dy"], arrays["which"].astype(np.int32)
    pieces = int(values["pieces"])
    return {"allocating": lambda: ops.backprop_maxout(dy, which, pieces).reshape(len(dy), -1)}


def mish(arrays: Arrays, values: dict[str, float]) -> Forms:
    x = arrays["x"].reshape(1, -1)
    return {"allocating": lambda: ops.mish(x).reshape(-1)}


OPERATIONS = {"mish": mish, "maxout": maxout, "maxout_backward": maxout_backward}
