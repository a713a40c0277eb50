"""out= of every function that reads arrays: an error leaves it as it was, whichever argument is wrong."""

import inspect
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from array_kinds import ALONG, POSITIONAL, READING, Array, Call
from fuzz.strangers import Reluctant, Shaped, Typed

CALLS = {
    name: call
    for name, call in {**ALONG, **POSITIONAL, **READING}.items()
    if isinstance(call.function, np.ufunc) or "out" in inspect.signature(call.function).parameters
}
# Arguments that no function takes.
WRONG: dict[str, tuple[Any, ...]] = {
    "activation": ("nothing",),
    "axis": (99, 1.5),
    "class_weight": (np.full(6, -1.0), np.ones(3)),
    "dilation": (0,),
    "eps": (-1.0, "x"),
    "gamma": ("x",),
    "groups": (7,),
    "ignore_index": (2**70,),
    "kernel_size": (99, "x"),
    "label_smoothing": (2.0,),
    "margin": ("x",),
    "mask": (np.zeros(1, np.float32), np.zeros(99, np.uint8), "x"),
    "mask_as": ("x",),
    "mode": ("x",),
    "momentum": ("x",),
    "n": (-1, "x"),
    "num_groups": (5, "x"),
    "offset": (-1, "x"),
    "p": (2.0, "x", np.array([0.5, 3.0])),
    "padding": (-1, "x"),
    "pieces": (5, "x"),
    "pos_weight": ("x", -1.0),
    "reduction": ("each",),
    "rng": ("x", -1),
    "running_mean": (np.zeros(99),),
    "running_var": (np.zeros(6, np.int32),),
    "sample_weight": ([-1.0] * 4, "x", np.ones(9)),
    "saved": ("x", None),
    "shape": ((1, 1), "x"),
    "slopes": ("x", np.ones(99)),
    "stride": (0, "x"),
    "which": ("x",),
}
# Ways to call a function that change what is done after the kernel.
WAYS = {
    "activation": ("relu",),
    "mask": (None,),  # the one that the function returns
    "mask_as": ("bool",),
    "mode": ("vanilla", "cs231n"),
    "reduction": ("none",),
    "training": (True, False),
}


def parameters(call: Call) -> set[str]:
    """The options of a function besides its arrays."""
    if isinstance(call.function, np.ufunc):
        return {"axis"} if call.function.signature else set()
    return set(inspect.signature(call.function).parameters) - set(call.arrays)


def ways(call: Call) -> Iterator[Call]:
    """The call with no, one or two options of WAYS besides."""
    options = sorted((parameters(call) & set(WAYS)) - set(call.others))
    for names in (*combinations(options, 2), *combinations(options, 1), ()):
        for values in product(*(WAYS[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            if "mask" in chosen:
                chosen["mask"] = call()[1]
            yield Call(call.function, call.arrays, {**call.others, **chosen})


def outputs(call: Call) -> Iterator[list[Array]]:
    """Arrays that the function takes as out: each of its results, and all together."""
    try:
        result = call()
    except ValueError:
        return  # mode= of stochastic depth has other words
    found = result if isinstance(result, tuple) else (result,)
    arrays = [array for array in found if isinstance(array, np.ndarray)]
    for chosen in ([array] for array in arrays), [arrays]:
        for several in chosen:
            try:
                run(call, [np.zeros_like(array) for array in several])
            except (TypeError, ValueError):
                continue
            yield several


def run(call: Call, out: list[Any], **options: Any) -> None:
    arrays = options.pop("arrays", {})
    given = {**call.arrays, **arrays, **call.others, **options}
    call.function(**given, out=out[0] if len(out) == 1 else tuple(out))


def wrong_calls(call: Call) -> Iterator[dict[str, Any]]:
    """What to give in place of one argument."""
    for name, x in call.arrays.items():
        longer = np.zeros([side + 1 for side in x.shape], x.dtype)
        for wrong in (x.astype(complex), longer, x[None, ..., None], x.astype(object), "x"):
            yield {"arrays": {name: wrong}}
    for name in sorted(parameters(call) & set(WRONG)):
        for value in WRONG[name]:
            yield {name: value}


def wrong_outputs(out: list[Array]) -> Iterator[list[Any]]:
    """out with one of its arrays wrong, or telling lies about itself."""
    for k, array in enumerate(out):
        read_only = array.copy()
        read_only.flags.writeable = False
        longer = np.zeros([side + 1 for side in array.shape], array.dtype)
        lying = [array.view(kind) for kind in (Shaped, Typed, Reluctant)]
        others = [out[k - 1]] if len(out) > 1 else []
        for wrong in (array.astype(np.int16), longer, read_only, "x", *others, *lying):
            yield [*out[:k], wrong, *out[k + 1 :]]


def assert_unchanged(call: Call, out: list[Array], given: list[Any], **options: Any) -> bool:
    """Whether there was an error, which must leave out as it was."""
    before = [array.copy() for array in out]
    try:
        run(call, given, **options)
    except Exception as error:
        for array, old in zip(out, before, strict=True):
            np.testing.assert_array_equal(array, old, f"{error!r} {options}")
        return True
    return False


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_an_error_leaves_out_as_it_was(name: str) -> None:
    errors = 0
    for call in ways(CALLS[name]):
        for like in outputs(call):
            out = [np.ones_like(array) for array in like]
            for options in wrong_calls(call):
                errors += assert_unchanged(call, out, out, **options)
                for array in out:
                    array[...] = 1
            for given in wrong_outputs(out):
                errors += assert_unchanged(call, out, given)
                for array in out:
                    array[...] = 1
    assert errors > 5


# Their results are contiguous, whatever the images are.
OF_WINDOWS = [
    name for name in CALLS if "pool" in name or name.startswith(("conv", "im2col", "col2im"))
]
OF_MATRICES = [
    name for name, call in CALLS.items() if any(array.ndim > 1 for array in call.arrays.values())
]


@pytest.mark.parametrize("name", sorted({*OF_MATRICES} - {*OF_WINDOWS}))
def test_new_results_lie_in_memory_as_the_argument_does(name: str) -> None:
    """The order of its axes, as NumPy's own functions keep it: no result is transposed on the way."""
    call = CALLS[name]
    turned = {key: np.asfortranarray(array) for key, array in call.arrays.items()}
    results = Call(call.function, turned, call.others)()
    shapes = {array.shape for array in turned.values() if array.ndim > 1}
    for result in results if isinstance(results, tuple) else (results,):
        if isinstance(result, np.ndarray) and result.shape in shapes:
            assert result.flags.f_contiguous
