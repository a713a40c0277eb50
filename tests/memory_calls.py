"""Run by test_memory.py, under tests/cpp/allocations.cpp: a call of every family that takes memory of its own.

``refused``: each allocation of each call is refused once; the call has to raise MemoryError and to change nothing.
``held``: prints how many bytes each call holds beside its results, in C++ and of NumPy.
"""

import ctypes
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import nnfast as nf
from nnfast._testing import forced

cpp = ctypes.CDLL(sys.argv[2])
Arrays = dict[str, Any]
Call = Callable[[Arrays], Any]

ROWS, COLUMNS = (4096, 1024) if sys.argv[1] == "held" else (40, 2100)
SHAPE = (ROWS, COLUMNS)


@cache
def drawn(dtype: type) -> tuple[Any, ...]:
    """Numbers for x, dy, y and a column: to draw them takes longer than most calls."""
    rng = np.random.default_rng(0)
    shapes = (SHAPE, SHAPE, SHAPE, (COLUMNS,))
    return tuple(rng.standard_normal(shape, np.float32).astype(dtype) for shape in shapes)


def arrays(dtype: type = np.float32) -> Arrays:
    """Inputs, and the arrays that are written: all of them are to stay as they are where a call fails."""
    x, dy, y, column = (array.copy() for array in drawn(dtype))
    wide = np.float64 if dtype is np.float64 else np.float32
    return {
        "x": x,
        "dy": dy,
        "y": y,
        "column": column,
        "columns": (np.zeros(COLUMNS, dtype), np.zeros(COLUMNS, dtype)),
        "wide": (np.zeros(COLUMNS, wide), np.zeros(COLUMNS, wide)),
        "mean": np.zeros(COLUMNS, wide),
        "var": np.ones(COLUMNS, wide),
        "labels": np.arange(ROWS) % COLUMNS,
        "mask": nf.dropout_mask(SHAPE, rng=0),
    }


def images(a: Arrays, name: str = "x") -> Any:
    return a[name].reshape(ROWS // 10, -1, 10, 5) if ROWS == 40 else a[name].reshape(64, -1, 16, 16)


def batch_norm(a: Arrays) -> Any:
    return nf.batch_norm(a["x"], None, None, a["mean"], a["var"], training=True, out=a["y"])


def batch_norm_images(a: Arrays) -> Any:
    return nf.batch_norm(images(a), training=True, activation="relu", out=images(a, "y"))


def batch_norm_backward(a: Arrays) -> Any:
    out = (a["y"], *a["wide"])
    return nf.batch_norm_backward(a["dy"], a["x"], None, SAVED["batch_norm"], out=out)


def convolution(a: Arrays) -> Any:
    w = np.ones((images(a).shape[1], 1, 3, 3), a["x"].dtype)
    return nf.conv2d(images(a), w, padding="same", groups=len(w), out=images(a, "y"))


def convolution_backward(a: Arrays) -> Any:
    w = np.ones((images(a).shape[1], 1, 3, 3), a["x"].dtype)
    out = (images(a, "y"), None, a["columns"][0][: len(w)])
    return nf.conv2d_backward(images(a, "dy"), images(a), w, padding="same", groups=len(w), out=out)


def layer_norm_backward(a: Arrays) -> Any:
    out = (a["y"], *a["wide"])
    return nf.layer_norm_backward(a["dy"], a["x"], None, SAVED["layer_norm"], out=out)


def step(a: Arrays) -> Any:
    if "optimizer" not in a:
        options: Arrays = {"clip_global_norm": 1.0, "skip_nonfinite": True, "ema_decay": 0.5}
        a["optimizer"] = nf.optim.Adam([a["x"]], lr=0.1, **options)
    return a["optimizer"].step([a["dy"]], stats=True)


def dropout(a: Arrays) -> Any:
    return nf.dropout(a["x"], np.linspace(0, 0.9, COLUMNS), rng=0, out=a["y"])


CALLS: dict[str, Call] = {
    "softmax": lambda a: nf.softmax(a["x"], out=a["y"]),
    "log_softmax_backward": lambda a: nf.log_softmax_backward(a["dy"], a["x"], out=a["y"]),
    "prelu": lambda a: nf.prelu(a["x"], a["column"], out=a["y"]),
    "prelu_weight_backward": lambda a: nf.prelu_weight_backward(a["dy"], a["x"], a["column"]),
    "bias_gelu": lambda a: nf.bias_gelu(a["x"], a["column"], out=a["y"]),
    "bias_relu_backward": lambda a: nf.bias_relu_backward(
        a["dy"], a["x"], out=(a["y"], a["columns"][0])
    ),
    "glu": lambda a: nf.glu(a["x"], out=a["y"][:, : COLUMNS // 2]),
    "maxout": lambda a: nf.maxout(a["x"], 2),
    "batch_norm": batch_norm,
    "batch_norm_images": batch_norm_images,
    "batch_norm_backward": batch_norm_backward,
    "group_norm": lambda a: nf.group_norm(images(a), 2, out=images(a, "y")),
    "group_norm_backward": lambda a: nf.group_norm_backward(
        images(a, "dy"),
        images(a),
        None,
        SAVED["group_norm"],
        out=(images(a, "y"), *(each[: images(a).shape[1]] for each in a["wide"])),
    ),
    "layer_norm": lambda a: nf.layer_norm(a["x"], out=a["y"]),
    "layer_norm_backward": layer_norm_backward,
    "dropout": dropout,
    "dropout_backward": lambda a: nf.dropout_backward(a["dy"], a["mask"], out=a["y"]),
    "masked_softmax": lambda a: nf.masked_softmax(a["x"], scale=0.5, causal=True, out=a["y"]),
    "embedding_backward": lambda a: nf.embedding_backward(
        a["dy"], a["labels"], len(a["y"]), out=a["y"]
    ),
    "max_pool2d": lambda a: nf.max_pool2d(images(a), 3, 2, padding=1),
    "max_pool2d_backward": lambda a: nf.max_pool2d_backward(
        images(a, "dy"), SAVED["which"], images(a).shape, out=images(a, "y")
    ),
    "avg_pool2d": lambda a: nf.avg_pool2d(images(a), 2),
    "global_avg_pool2d": lambda a: nf.global_avg_pool2d(images(a)),
    "conv2d": convolution,
    "conv2d_backward": convolution_backward,
    "bias_relu_dropout_backward": lambda a: nf.bias_relu_dropout_backward(
        a["dy"], a["mask"], out=(a["y"], a["columns"][0])
    ),
}
SINGLE: dict[str, Call] = {
    "softmax_cross_entropy": lambda a: nf.softmax_cross_entropy(a["x"], a["labels"], out=a["y"]),
    "svm_loss": lambda a: nf.svm_loss(a["x"], a["labels"], out=a["y"]),
    "mse_loss": lambda a: nf.mse_loss(a["x"], a["dy"], out=a["y"]),
    "elastic_net": lambda a: nf.penalties.elastic_net([a["x"]], 0.1, 0.1, grads=[a["y"]]),
    "max_norm_": lambda a: nf.penalties.max_norm_(a["x"], 0.1),
    "uniform": lambda a: nf.random.Philox(0).uniform(out=a["y"]),
    "Adam": step,
}
SAVED: Arrays = {}


def values(value: Any) -> Any:
    """What must stay, as bytes."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, tuple):
        return [values(each) for each in value]
    return {
        key: values(each)
        for key, each in value.state_dict().items()
        if isinstance(each, np.ndarray)
    }


def refuse(name: str, call: Call, dtype: type) -> None:
    """Refuse the first allocation, then the second, and so on, until the call comes through."""
    errors = 0
    for n in range(1000):
        given = arrays(dtype)
        if name == "Adam":
            call(given)  # there is state then
        before = {key: values(array) for key, array in given.items()}
        cpp.refuse_after(n)
        try:
            call(given)
        except MemoryError:
            errors += 1
            cpp.grant_all()
            after = {key: values(array) for key, array in given.items()}
            changed = [key for key in before if after[key] != before[key]]
            assert not changed, f"{name}: refusal {n} left {changed} changed"
        else:
            was_refused = cpp.refused()
            cpp.grant_all()
            if not was_refused:
                print(name, np.dtype(dtype).name, errors)
                return
    raise AssertionError(f"{name} goes on asking for memory")


def hold(name: str, call: Call, dtype: type) -> None:
    given = arrays(dtype)
    results = call(given)  # what is made once, and threads
    given = arrays(dtype)
    if name == "Adam":
        call(given)
    del results
    cpp.most_held()
    tracemalloc.reset_peak()
    results = call(given)
    now, peak = tracemalloc.get_traced_memory()
    del results
    print(name, np.dtype(dtype).name, cpp.most_held(), peak - now, given["x"].nbytes)


tracemalloc.start()
with forced(threads=3, grain=1):
    for dtype in (np.float16, np.float32):
        SAVED = {
            "batch_norm": nf.batch_norm(arrays(dtype)["x"], training=True)[1],
            "layer_norm": nf.layer_norm(arrays(dtype)["x"])[1],
            "group_norm": nf.group_norm(images(arrays(dtype)), 2)[1],
            "which": nf.max_pool2d(images(arrays(dtype)), 1)[1],
        }
        for name, call in (CALLS | (SINGLE if dtype is np.float32 else {})).items():
            (refuse if sys.argv[1] == "refused" else hold)(name, call, dtype)
