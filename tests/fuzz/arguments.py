"""Arguments by their parameter's name, so that a call of a new function is often a right one; else anything at all."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

import nnfast as nf
from fuzz.arrays import FLOATS, Frame, array, shapes, virtual
from fuzz.strangers import stranger

FLOAT64 = np.dtype("f8")
UINT8 = np.dtype("u1")
INT64 = np.dtype("i8")

# Parameters that are written in place. What a function whose name ends with "_" is given first is, too.
WRITTEN = {"out", "running_mean", "running_var", "num_batches_tracked", "grads", "params", "w"}
# The choices of `shapes` that are usual.
FULL, SIDE, REST, HALF, BITS, FIRST = range(6)
SCALAR = 8

PLACES = {
    **dict.fromkeys(("gamma", "beta", "bias", "running_mean", "running_var", "var"), SIDE),
    **dict.fromkeys(("mean", "inv_std", "m2", "class_weight", "weights", "pos_weight"), SIDE),
    **dict.fromkeys(("labels", "indices", "inv_rms", "sample_weight"), REST),
    "mask": BITS,
    "num_batches_tracked": SCALAR,
}
ARRAYS = (
    {"x", "dy", "y", "out", "logits", "scores", "predictions", "targets", "add", "values", "which"}
    | {"weight", "X", "where", "columns", "x1", "x2", "anchors", "positives", "negatives"}
    | {"variances"}
    | set(PLACES)
)
DTYPES = {
    "labels": INT64,
    "indices": INT64,
    "which": UINT8,
    "mask": UINT8,
    "num_batches_tracked": INT64,
    "where": np.dtype(bool),
    **dict.fromkeys(("mean", "inv_std", "inv_rms", "m2"), FLOAT64),
}
WORDS = (
    *("none", "tanh", "relu", "gelu", "sigmoid", "inverted", "vanilla", "row", "batch", "NCHW"),
    *("NHWC", "horizontal", "vertical", "both", "probabilities", "log", "random", "norm", "value"),
    *("global", "each", "pytorch", "keras", "zeros", "he", "x", "bits", "bool", "cs231n"),
)
FLAGS = {
    "training",
    "bias_correction",
    "amsgrad",
    "nesterov",
    "centered",
    "skip_nonfinite",
    "stats",
    "log_input",
}
INTEGERS = {
    *("offset", "padding", "num_groups", "pieces", "size", "running_var_correction", "n"),
    *("kernel_size", "stride", "dilation", "groups"),
}
NUMBERS = (0.5, 0.0, 1.0, 0.1, 2.0, 1e-5, -1.0, 1e300, 5e-324, float("nan"), float("inf"), 3, True)


def argument(frame: Frame, parameter: inspect.Parameter, written: bool) -> Any:
    """What to give for a parameter: of the kind its name says, now and then of any other."""
    name = parameter.name
    if frame.source.rarely(24):
        return stranger(frame.source)
    if parameter.annotation is bool or name in FLAGS:
        return frame.source.pick((True, False))
    record = _record(parameter)
    if record is not None:
        return _saved(frame, record, written or name == "reuse")
    if name in ARRAYS and parameter.annotation is not float:
        return _several(frame, name, written)
    if name in _OTHERS:
        return _OTHERS[name](frame)
    if name in INTEGERS:
        return _integer(frame)
    return _by_annotation(frame, parameter)


def _several(frame: Frame, name: str, written: bool) -> Any:
    """An array, for `out` also a tuple of them or None."""
    if name != "out":
        return one_array(frame, name, written)
    many = frame.source.pick((1, 1, 1, 1, 0, 2, 3, 4))
    if many == 0:
        return None
    made = [one_array(frame, name, written, place=FULL if k == 0 else SIDE) for k in range(many)]
    return made[0] if many == 1 else tuple(made)


def one_array(frame: Frame, name: str, written: bool, place: int | None = None) -> Any:
    """An array for a parameter of this name."""
    place = PLACES.get(name, FULL) if place is None else place
    dtype = DTYPES.get(name, frame.dtype)
    if name == "which" and "pool" in frame.name:
        dtype = np.dtype(np.int32)
    if name == "mask" and frame.name == "masked_softmax":
        place, dtype = FULL, np.dtype(bool)
    shape = shapes(frame, place)
    if frame.huge:
        return virtual(frame, shape, dtype)
    made = array(frame, shape, dtype, written=written)
    if name in ("labels", "indices") and frame.source.below(8) < 7:
        _put_labels(made, frame.side if name == "labels" else 2)
    return made


def _put_labels(array: Any, classes: int) -> None:
    """Indices of classes, where the array takes them."""
    if type(array) is np.ndarray and array.dtype.kind in "iu" and array.flags.writeable:
        array[...] = np.arange(array.size).reshape(array.shape) % max(1, classes)


def _integer(frame: Frame) -> int:
    return frame.source.pick((1, 2, frame.side, 0, 3, 8, frame.elements, -1, 2**31, 2**62, 2**64))


def _axis(frame: Frame) -> Any:
    choice = frame.source.below(16)
    if choice < 10:
        return frame.axis
    return ((0, 1), (-1, -2), (), 2**31, -(2**63), 100)[choice - 10]


def _shape(frame: Frame) -> Any:
    plain = shapes(frame, FULL)
    if frame.source.below(16) < 14:
        return plain
    return frame.source.pick((2**40, (2**31, 2**31), (2**62,), (-1,), (0, 2**62), 3, (2**64,)))


def _rng(frame: Frame) -> Any:
    seed = frame.source.pick((0, 1, 2**64 - 1, 2**64, -1))
    match frame.source.below(6):
        case 4:
            return np.random.default_rng(0)
        case 5:
            return np.random.SeedSequence(7)
        case _:
            return seed


def _lists(name: str) -> Callable[[Frame], Any]:
    """Arrays of the shapes of the call, the same at each place for parameters and gradients."""

    def grow(frame: Frame) -> Any:
        count = frame.source.pick((1, 2, 3, 0))
        made = [
            one_array(frame, name, name in WRITTEN, place=(FULL, SIDE, REST)[k])
            for k in range(count)
        ]
        kind = frame.source.below(8)
        if kind == 6:
            return {chr(97 + k): value for k, value in enumerate(made)}
        return tuple(made) if kind == 7 else made

    return grow


def _one_or_several(name: str) -> Callable[[Frame], Any]:
    """An array or arrays, of which the call's shape decides: the same for all arguments."""
    several = _lists(name)

    def grow(frame: Frame) -> Any:
        if frame.side % 3 == 0:
            return several(frame)
        return one_array(frame, name, name in WRITTEN)

    return grow


def _number_of_any_kind(frame: Frame) -> Any:
    """A number, or one for each channel."""
    if frame.source.rarely(8):
        return one_array(frame, "p", False, place=SIDE)
    return frame.source.pick(NUMBERS)


_OTHERS: dict[str, Callable[[Frame], Any]] = {
    "axis": _axis,
    "shape": _shape,
    "rng": _rng,
    "seed": _rng,
    "p": _number_of_any_kind,
    "reduction": lambda frame: frame.source.pick(("mean", "none", "sum", "each")),
    "params": _lists("params"),
    "grads": _lists("grads"),
    "w": _one_or_several("w"),
    "dw": _one_or_several("dw"),
    "state": lambda frame: frame.source.pick((None, {}, {"step_count": 1}, {"exp_avg": 1.0}, [])),
    "checkpoints": _lists("checkpoints"),
    "dtype": lambda frame: frame.source.pick(
        (*FLOATS, np.float64, "u4", np.uint64, ">f4", "O", int)
    ),
    "betas": lambda frame: (frame.source.pick(NUMBERS), frame.source.pick(NUMBERS)),
    "casting": lambda frame: frame.source.pick(("same_kind", "unsafe", "no", "safe", "equiv", "x")),
    "order": lambda frame: frame.source.pick("KCFA"),
    "axes": lambda frame: frame.source.pick(((frame.axis,), [(frame.axis,), (frame.axis,)], ())),
}


def _record(parameter: inspect.Parameter) -> Any:
    """The record of the package's own that the annotation names, if it names one."""
    for kind in (parameter.annotation, *get_args(parameter.annotation)):
        if isinstance(kind, type) and kind.__module__.startswith("nnfast"):
            return kind
    return None


def _saved(frame: Frame, kind: Any, written: bool) -> Any:
    """What the forward function gave, with a field of another kind now and then, or fields of any kind."""
    fields = inspect.signature(kind).parameters.values()
    genuine = _forward_record(frame, kind) if frame.source.below(4) else None
    if genuine is None:
        return kind(*(argument(frame, field, written) for field in fields))
    return kind(
        *(
            argument(frame, field, written)
            if frame.source.rarely(8)
            else getattr(genuine, field.name)
            for field in fields
        )
    )


def _forward_record(frame: Frame, kind: Any) -> Any:
    """The record that the function gives whose gradient is called, for an array of the call's shape."""
    forward = getattr(nf, frame.name.removesuffix("_backward"), None)
    if forward is None or frame.huge:
        return None
    parameters = inspect.signature(forward).parameters
    given = {
        "axis": frame.axis,
        "training": True,
        "num_groups": frame.source.pick((1, 2, frame.side)),
        "activation": frame.source.pick((None, "relu")),
    }
    try:
        made = forward(
            np.ones(frame.shape, frame.dtype),
            **{name: value for name, value in given.items() if name in parameters},
        )
    except ValueError:
        return None
    return made[1] if isinstance(made, tuple) and isinstance(made[1], kind) else None


def _by_annotation(frame: Frame, parameter: inspect.Parameter) -> Any:
    """By what the annotation says it is: a word, a number, an array or anything."""
    text = str(parameter.annotation)
    if "Literal" in text or "str" in text:
        return frame.source.pick(WORDS)
    if "float" in text:
        return frame.source.pick(NUMBERS)
    if "int" in text:
        return _integer(frame)
    if "bool" in text:
        return frame.source.pick((True, False))
    if "rray" in text:
        return one_array(frame, parameter.name, False)
    return stranger(frame.source)
