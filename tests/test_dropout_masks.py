"""Dropout's masks in every form, CS231n's convention, and fresh entropy."""

import subprocess
import sys
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from dropout_data import both_dtypes, every_dtype, numbers
from layouts import assert_same_bits
from tests.reference.philox import keep, pack

Array = NDArray[Any]
BIAS, WEIGHT = numbers(6), numbers((6, 3))


class Kind(NamedTuple):
    """A function, its gradient, the shape of x, and that of the mask."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Any]
    shape: tuple[int, ...]
    masked: tuple[int, ...]


def bias_relu_dropout(x: Any, *arguments: Any, **keywords: Any) -> Any:
    return nf.bias_relu_dropout(x, BIAS, *arguments, **keywords)


def drop_connect(x: Any, *arguments: Any, **keywords: Any) -> Any:
    return nf.drop_connect(x, WEIGHT, *arguments, **keywords)


def drop_connect_backward(dy: Any, *arguments: Any) -> Any:
    return nf.drop_connect_backward(dy[:, :3], dy, WEIGHT, *arguments)


KINDS = {
    "dropout": Kind(nf.dropout, nf.dropout_backward, (4, 6), (4, 6)),
    "dropout of one": Kind(nf.dropout, nf.dropout_backward, (1,), (1,)),
    "dropout of a scalar": Kind(nf.dropout, nf.dropout_backward, (), ()),
    "dropout of none": Kind(nf.dropout, nf.dropout_backward, (0, 6), (0, 6)),
    "alpha_dropout": Kind(nf.alpha_dropout, nf.alpha_dropout_backward, (4, 6), (4, 6)),
    "bias_relu_dropout": Kind(bias_relu_dropout, nf.bias_relu_dropout_backward, (4, 6), (4, 6)),
    "dropout1d": Kind(nf.dropout1d, nf.dropout1d_backward, (3, 5, 2), (3, 5)),
    "dropout2d": Kind(nf.dropout2d, nf.dropout2d_backward, (3, 5, 2, 2), (3, 5)),
    "dropout3d": Kind(nf.dropout3d, nf.dropout3d_backward, (3, 1, 2, 2, 2), (3, 1)),
    "feature_alpha_dropout": Kind(
        nf.feature_alpha_dropout, nf.feature_alpha_dropout_backward, (3, 5, 2), (3, 5)
    ),
    "stochastic_depth": Kind(nf.stochastic_depth, nf.stochastic_depth_backward, (9, 2), (9,)),
    "drop_connect": Kind(drop_connect, drop_connect_backward, (4, 6), (6, 3)),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def assert_all_same(actual: Any, expected: Any) -> None:
    pair = isinstance(actual, tuple)
    for one, other in zip(*((actual, expected) if pair else ([actual], [expected])), strict=True):
        assert_same_bits(one, other)


@every_kind
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_every_form_means_the_same(kind: Kind, seed: int) -> None:
    x = numbers(kind.shape, seed=seed)
    kept = np.asarray(np.random.default_rng(seed).random(kind.masked) < 0.6)
    bits = pack(kept.ravel())
    y, used = kind.forward(x, 0.25, mask=bits)
    if kind.forward is not bias_relu_dropout:  # which returns what is left of it
        assert used is bits
    forms = [kept, kept.astype(np.uint8), np.asfortranarray(kept), np.repeat(kept, 2, -1)[..., ::2]]
    for mask in forms[: 4 if kept.ndim else 2]:
        again, packed = kind.forward(x, 0.25, mask=mask)
        assert_same_bits(again, y)
        assert_same_bits(packed, used)
        assert_all_same(kind.backward(x, mask, 0.25), kind.backward(x, bits, 0.25))
        as_bool = kind.forward(x, 0.25, mask=mask, mask_as="bool")[1]
        assert as_bool.shape == kind.masked
        assert_same_bits(pack(as_bool.ravel()), used)


@every_kind
def test_a_mask_is_made_in_either_form(kind: Kind) -> None:
    x = numbers(kind.shape)
    y, bits = kind.forward(x, 0.3, rng=7)
    same, kept = kind.forward(x, 0.3, rng=7, mask_as="bool")
    assert_same_bits(same, y)
    assert (kept.dtype, kept.shape) == (np.bool, kind.masked)
    assert_same_bits(pack(kept.ravel()), bits)
    assert_all_same(kind.backward(x, kept, 0.3), kind.backward(x, bits, 0.3))
    assert kind.forward(x, 0.3, training=False, mask_as="bool")[1] is None
    with pytest.raises(ValueError, match="mask_as must be 'bits' or 'bool', got 'uint8'"):
        kind.forward(x, 0.3, rng=7, mask_as="uint8")


@every_kind
def test_a_mask_that_holds_the_scale_is_refused(kind: Kind) -> None:
    """CS231n's ``(rng.random(shape) < p) / p``, of float64."""
    x = numbers(kind.shape)
    mask = np.asarray((np.random.default_rng(0).random(kind.masked) < 0.5) / 0.5)
    said = "mask must be an array of bool .* got dtype float64: pass mask != 0, without the scale"
    with pytest.raises(TypeError, match=said):
        kind.forward(x, 0.5, mask=mask)
    with pytest.raises(TypeError, match=said):
        kind.backward(x, mask, 0.5)
    if prod(kind.masked) and kind.masked != (1,):
        with pytest.raises(ValueError, match="mask of shape .* must be of 0 and 1, got 255"):
            kind.forward(x, 0.5, mask=np.full(kind.masked, 255, np.uint8))


def test_bits_and_elements_are_told_apart_by_their_shape() -> None:
    """One element may be both: then 0 and 1 mean the same, and other bits nothing."""
    for value, y in ((0, 0), (1, 2), (0xFE, 0), (0xFF, 2)):
        assert nf.dropout(np.ones(1), mask=np.array([value], np.uint8))[0] == y
    eight = np.array([1, 0, 1, 1, 0, 0, 0, 1], np.uint8)
    np.testing.assert_array_equal(nf.dropout(np.ones(8), mask=eight)[0], 2 * eight)
    np.testing.assert_array_equal(nf.dropout(np.ones(8), mask=pack(eight))[0], 2 * eight)
    for shape in ((2, 4), (8, 1), (2,), (1, 1)):
        with pytest.raises(ValueError, match=r"mask must have shape \(8,\), or \(1,\) as packed"):
            nf.dropout(np.ones(8), mask=np.ones(shape, np.uint8))
    with pytest.raises(ValueError, match=r"mask must have shape \(8,\), got \(1,\)"):
        nf.dropout(np.ones(8), mask=np.ones(1, bool))


def test_dropout_mask_as_bool() -> None:
    for shape in ((3, 5), 7, (), (0, 2)):
        kept = nf.dropout_mask(shape, 0.4, rng=3, mask_as="bool")
        assert kept.shape == (shape if isinstance(shape, tuple) else (shape,))
        assert_same_bits(pack(kept.ravel()), nf.dropout_mask(shape, 0.4, rng=3))
    out = np.zeros((5, 3), bool).T
    assert nf.dropout_mask((3, 5), 0.4, rng=3, mask_as="bool", out=out) is out
    assert_same_bits(out, nf.dropout_mask((3, 5), 0.4, rng=3, mask_as="bool"))
    with pytest.raises(ValueError, match="mask_as must be 'bits' or 'bool', got None"):
        nf.dropout_mask(3, mask_as=None)
    for wrong, error in ((np.zeros(2, np.uint8), TypeError), (np.zeros(14, bool), ValueError)):
        with pytest.raises(error, match="out must have"):
            nf.dropout_mask((3, 5), rng=3, mask_as="bool", out=wrong)


def test_bias_relu_dropout_writes_a_mask_of_bool() -> None:
    x = numbers((4, 6))
    y, kept = bias_relu_dropout(x, 0.3, rng=5, mask_as="bool")
    out = np.empty_like(x), np.zeros((4, 6), bool)
    given = bias_relu_dropout(x, 0.3, rng=5, mask_as="bool", out=out)
    assert all(a is b for a, b in zip(given, out, strict=True))
    assert_all_same(given, (y, kept))
    with pytest.raises(TypeError, match="out must have dtype bool, got uint8"):
        bias_relu_dropout(x, rng=5, mask_as="bool", out=(None, np.zeros(3, np.uint8)))


# ---- CS231n's convention ----


@every_dtype
@pytest.mark.parametrize("p", [0.8, 0.3, 1.0, 0.0])
def test_cs231n_keeps_with_probability_p(isa: str, dtype: type, p: float) -> None:
    x = numbers((40, 30), dtype)
    y, kept = nf.dropout(x, p, mode="cs231n", rng=2, mask_as="bool")
    assert abs(kept.mean() - p) < 0.05
    assert_same_bits(kept, nf.dropout_mask(x.shape, 1 - p, rng=2, mask_as="bool"))
    assert_same_bits(y, keep(x, kept, 1 / p if p else 1))
    assert_same_bits(nf.dropout_backward(x, kept, p, mode="cs231n"), y)
    assert_same_bits(nf.dropout(x, p, mode="cs231n", training=False)[0], x)


@both_dtypes
def test_cs231n_with_a_probability_for_each_channel(dtype: type) -> None:
    x, p = numbers((50, 4), dtype), np.array([0.0, 0.3, 0.8, 1.0])
    y, kept = nf.dropout(x, p, mode="cs231n", rng=2, mask_as="bool")
    assert_same_bits(kept, nf.dropout_mask(x.shape, 1 - p, rng=2, mask_as="bool"))
    for channel, of_channel in enumerate(p):  # the bits of a number for all
        column = x[:, channel], of_channel
        assert_same_bits(
            nf.dropout(*column, mode="cs231n", mask=kept[:, channel].copy())[0], y[:, channel]
        )
    assert_same_bits(nf.dropout_backward(x, kept, p, mode="cs231n"), y)
    assert_same_bits(nf.dropout(x, p, mode="cs231n", training=False)[0], x)


@both_dtypes
def test_a_scale_of_cs231n_is_one_over_p(dtype: type) -> None:
    """Not 1 / (1 - (1 - p)), which differs in the last bit for many p."""
    p = np.random.default_rng(0).uniform(0.01, 1, 300)
    x, kept = np.ones((2, 300), dtype), np.ones((2, 300), bool)
    expected = np.broadcast_to((1 / p).astype(dtype), x.shape)
    assert_same_bits(nf.dropout(x, p, mode="cs231n", mask=kept)[0], expected)
    assert_same_bits(nf.dropout_backward(x, kept, p, mode="cs231n"), expected)


@both_dtypes
@pytest.mark.parametrize("mode", ["inverted", "vanilla", "cs231n"])
def test_bias_relu_dropout_has_the_modes_of_dropout(dtype: type, mode: Any) -> None:
    x, dy = numbers((20, 6), dtype), numbers((20, 6), dtype, seed=1)
    bias = BIAS.astype(dtype)
    hidden = nf.bias_relu(x, bias)
    for p in (0.0, 0.3, 1.0):
        expected, of_dropout = nf.dropout(hidden, p, mode=mode, rng=5, mask_as="bool")
        y, kept = nf.bias_relu_dropout(x, bias, p, mode=mode, rng=5, mask_as="bool")
        assert_same_bits(y, expected)
        assert_same_bits(kept, of_dropout & (hidden > 0))
        dx, _ = nf.bias_relu_dropout_backward(dy, kept, p, mode=mode)
        assert_same_bits(dx, nf.dropout_backward(dy, kept, p, mode=mode))
        y, none = nf.bias_relu_dropout(x, bias, p, mode=mode, training=False)
        assert none is None
        assert_same_bits(y, nf.dropout(hidden, p, mode=mode, training=False)[0])
    for call in (nf.bias_relu_dropout, nf.bias_relu_dropout_backward):
        with pytest.raises(ValueError, match="mode must be 'inverted', 'vanilla' or 'cs231n'"):
            call(x, kept if "backward" in call.__name__ else bias, mode="other")


def test_an_assignment_of_cs231n() -> None:
    """Its dropout_forward and dropout_backward, with the same mask."""
    x, dout = numbers((500, 50)) + 10, numbers((500, 50), seed=1)
    for p in (0.25, 0.4, 0.7):
        kept = np.random.default_rng(231).random(x.shape) < p
        mask = kept / p
        out, _ = nf.dropout(x, p, mode="cs231n", mask=mask != 0)
        np.testing.assert_allclose(out, x * mask, rtol=1e-12)
        dx = nf.dropout_backward(dout, kept, p, mode="cs231n")
        np.testing.assert_allclose(dx, dout * mask, rtol=1e-12)


# ---- fresh entropy ----

SOURCES = """
import numpy as np, nnfast as nf
x, b, w, images = np.ones((8, 32)), np.ones(32), np.ones((32, 8)), np.ones((64, 8, 2, 2))
SOURCES = [
    lambda: nf.dropout(x)[1],
    lambda: nf.dropout(x, np.full(32, 0.5))[1],
    lambda: nf.dropout_mask(256),
    lambda: nf.alpha_dropout(x)[1],
    lambda: nf.bias_relu_dropout(x, b)[1],
    lambda: nf.dropout2d(images)[1],
    lambda: nf.feature_alpha_dropout(images)[1],
    lambda: nf.stochastic_depth(np.ones((256, 1)))[1],
    lambda: nf.drop_connect(x, w)[1],
    lambda: nf.random.Philox().bits(8),
    lambda: nf.init.normal((8,)),
    lambda: nf.augmentation.random_noise(x, 0.5),
    lambda: nf.augmentation.random_flip(np.random.default_rng(0).random((256, 1, 2, 2))),
    lambda: nf.nn.Dropout().forward(x, training=True),
    lambda: nf.nn.Dense(8, 8).weight,
]
"""
FORKING = """
import os, threading
from hashlib import sha1
def drawn():
    return [sha1(source().tobytes()).hexdigest() for source in SOURCES]
drawn()  # whatever is made once
read, write = os.pipe()
def tell(lines):
    with os.fdopen(os.dup(write), "w") as out:
        out.write("".join(f"{i} {line}\\n" for i, line in enumerate(lines)))
told = []
threads = [threading.Thread(target=lambda: told.append(drawn())) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        for _ in range(2): told.append(drawn())
        tell([line for lines in told[4:] for line in lines])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
told.append(drawn())
os.close(write)
with os.fdopen(read) as lines:
    got = [line.split() for line in lines]
got += [[i, line] for lines in told for i, line in enumerate(lines)]
for source in range(len(SOURCES)):
    mine = [line for i, line in got if int(i) % len(SOURCES) == source]
    assert len(mine) == 13 and len(set(mine)) == 13, (source, len(mine), len(set(mine)))
"""


def test_entropy_is_fresh_in_every_thread_and_forked_child() -> None:
    """Of every function that takes rng: 4 threads, 4 children twice, and their parent have 13 different draws."""
    subprocess.run([sys.executable, "-c", SOURCES + FORKING], check=True, timeout=120)


@pytest.mark.parametrize("form", ["bool", "uint8", "bits"])
def test_out_and_a_mask_in_any_form_share_no_memory(form: str) -> None:
    memory = np.ones(64, np.uint8)
    out, x = memory.view(np.float64).reshape(2, 4), np.ones((2, 4))
    mask = {
        "bool": memory[:8].view(bool).reshape(2, 4),
        "uint8": memory[:8].reshape(2, 4),
        "bits": memory[:1],
    }[form]
    for call in (
        lambda: nf.dropout(x, mask=mask, out=out),
        lambda: nf.dropout_backward(x, mask, out=out),
        lambda: nf.alpha_dropout(x, mask=mask, out=out),
        lambda: nf.bias_relu_dropout(x, np.zeros(4), mask=mask, out=(out, None)),
        lambda: nf.drop_connect(np.ones((2, 2)), np.ones((2, 4)), mask=mask, out=out),
    ):
        with pytest.raises(ValueError, match="out and mask must not share memory"):
            call()
        assert (memory == 1).all()
