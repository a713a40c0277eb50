"""Averages of parameters, EMA and SWA: values, bits restored, resuming, errors."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnfast as nf
from averaging_data import (
    FROZEN,
    Array,
    assert_lists,
    assert_stats,
    both_averages,
    both_dtypes,
    copies,
    draw,
    exact_stats,
    kept,
    raw,
    three_dtypes,
)
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast import averaging
from nnfast._testing import forced
from nnfast.averaging import EMA, SWA, BatchNormRecomputer
from test_examples import examples
from ulp import assert_ulp

# ---- EMA ----


def weights_of(decays: list[float], corrected: bool) -> list[np.longdouble]:
    """Of what the average began with and of each update, as the definition has them."""
    weights = [np.longdouble(1)]
    for decay in map(np.longdouble, decays):
        weights = [w * decay for w in weights] + [1 - decay]
    if not corrected:
        return weights
    return [np.longdouble(0), *(w / (1 - weights[0]) for w in weights[1:])]


def ema_bound(steps: int, decay: float, size: float, dtype: type) -> float:
    """What rounding adds up to: at each step that of the average, its difference and the share, faded since."""
    unit, bound, weight = np.finfo(dtype).eps / 2, 0.0, 0.0
    for _ in range(steps):
        weight = decay * weight + (1 - decay)
        bound = decay * bound + unit * size * (1 + 4 * (1 - decay) / weight)
    return bound


@three_dtypes
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_ema_is_the_weighted_mean(engine: str, dtype: type, corrected: bool, decay: float) -> None:
    history = [draw(dtype, seed) for seed in range(41)]
    ema = EMA(history[0], decay, bias_correction=corrected)
    for steps, params in enumerate(history[1:], 1):
        ema.update(params)
        if steps not in (1, 2, 40):
            continue
        weights = weights_of([decay] * steps, corrected)
        for i, average in enumerate(ema.averages()):
            assert average.dtype == kept(dtype)
            taken = zip(weights, history[: steps + 1], strict=True)
            expected = sum(w * params[i].astype(np.longdouble) for w, params in taken)
            bound = ema_bound(steps, decay, 6.0, kept(dtype))
            assert np.abs(average - expected).max(initial=0) <= bound
    assert ema.update_count == 40


def test_a_changed_decay_counts_from_then_on() -> None:
    decays = [0.5, 0.5, 0.9, 0.99, 0.0, 0.8]
    ema = EMA([np.zeros(3)])
    history = [np.full(3, float(k)) for k in range(7)]
    for stop, (decay, params) in enumerate(zip(decays, history[1:], strict=True), 1):
        ema.decay = decay
        ema.update([params])
        weights = weights_of(decays[:stop], corrected=True)
        expected = sum(float(w) * p for w, p in zip(weights, history[: stop + 1], strict=True))
        np.testing.assert_allclose(ema.averages()[0], expected, 1e-15)


@three_dtypes
@pytest.mark.parametrize("corrected", [True, False])
def test_the_average_of_constant_parameters_is_exact(dtype: type, corrected: bool) -> None:
    params = draw(dtype, 0)
    ema = EMA(params, bias_correction=corrected)
    for _ in range(3000):
        ema.update(params)
    assert_lists(ema.averages(), [p.astype(kept(dtype)) for p in params])


def test_the_correction_forgets_what_the_average_began_with() -> None:
    for start in (0.0, 1e30, np.nan, np.inf):
        ema = EMA([np.full(3, start)])
        ema.update([np.array([1.0, 2.0, 3.0])])
        assert_same_bits(ema.averages()[0], np.array([1.0, 2.0, 3.0]))
    kept_in = EMA([np.full(3, 8.0)], 0.75, bias_correction=False)
    kept_in.update([np.zeros(3)])
    assert_same_bits(kept_in.averages()[0], np.full(3, 6.0))


def sixteenths(dtype: type, seed: int) -> list[Array]:
    """Numbers that float16 has, with sums that it has."""
    return [np.asarray(np.rint(array * 16) / 16, dtype) for array in draw(np.float64, seed)]


@three_dtypes
@pytest.mark.parametrize("corrected", [True, False])
# Decays that float32 has: of 0.999 an optimizer takes what float32 makes of it.
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.875, 1 - 2**-10])
def test_ema_is_that_of_the_optimizers(dtype: type, corrected: bool, decay: float) -> None:
    params = sixteenths(dtype, 99)
    optimizer = nf.optim.SGD(params, lr=1, ema_decay=decay, ema_bias_correction=corrected)
    ema = EMA(params, decay, bias_correction=corrected)
    largest = 0.0
    for step in range(60):
        optimizer.step(sixteenths(dtype, step))
        ema.update(params)
        largest = max(largest, *(float(np.abs(p).max(initial=0)) for p in params))
    # Theirs rounds a product more at each step, and a quotient at the end.
    bound = 2 * ema_bound(60, decay, largest, kept(dtype))
    bound /= 1 - decay**60 if corrected else 1
    for theirs, ours in zip(optimizer.averaged_params(), ema.averages(), strict=True):
        assert theirs.dtype == ours.dtype
        assert np.abs(theirs - ours).max(initial=0) <= bound


@both_dtypes
def test_ema_and_optimizer_have_the_same_bits_where_nothing_rounds(dtype: type) -> None:
    for corrected in (True, False):
        params = [np.arange(64, dtype=dtype)]
        optimizer = nf.optim.SGD(params, lr=1, ema_decay=0.5, ema_bias_correction=corrected)
        ema = EMA(params, 0.5, bias_correction=corrected)
        for step in range(1 if corrected else 8):
            optimizer.step([np.arange(64, dtype=dtype) % (step + 3)])
            ema.update(params)
        assert_lists(ema.averages(), optimizer.averaged_params())


@both_dtypes
def test_bits_do_not_depend_on_threads_or_layout(dtype: type) -> None:
    start, *history = np.random.default_rng(0).standard_normal((4, 50, 37)).astype(dtype)

    def average(layout: str) -> Array:
        ema = EMA([layouts(start)[layout]], bias_correction=False)
        for params in history:
            ema.update([layouts(params)[layout]])
        (found,) = ema.averages()
        return found

    expected = average("contiguous")
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for layout in layouts(start):
                    assert_same_bits(average(layout), expected)


# ---- SWA ----


@given(
    history=st.lists(
        st.lists(st.floats(-1e4, 1e4, width=16), min_size=3, max_size=3), min_size=1, max_size=20
    )
)
@three_dtypes
def test_swa_is_the_mean_rounded_once(dtype: type, history: list[list[float]]) -> None:
    # Multiples of a third, so that the sums have digits to lose.
    params = [(np.array(row) / 3).astype(dtype) for row in history]
    swa = SWA([params[0]])
    for p in params:
        swa.update([p])
    (average,) = swa.averages()
    assert average.dtype == kept(dtype)
    sums = [sum(Fraction(float(p[k])) for p in params) for k in range(3)]
    if dtype == np.float64:
        sizes = [sum(abs(float(p[k])) for p in params) for k in range(3)]
        for got, total, size in zip(average, sums, sizes, strict=True):
            error = abs(Fraction(float(got)) - total / len(params))
            assert error <= size * 2**-53 + abs(float(total)) / len(params) * 2**-53
    else:
        expected = np.array([float(total / len(params)) for total in sums])
        # Half an ulp is the last rounding; the rest is of roundings in float64 before it.
        assert_ulp(average, expected, 0.5 + 2**-20)


@both_averages
def test_averages_come_in_the_form_of_the_parameters(make: Any) -> None:
    named = {"w": np.ones((2, 3), np.float16), "b": np.ones(3)}
    average = make(named)
    average.update({"b": named["b"], "w": named["w"]})
    found = average.averages()
    assert list(found) == ["w", "b"]
    assert [a.dtype for a in found.values()] == [np.float32, np.float64]
    assert [a.shape for a in found.values()] == [(2, 3), (3,)]
    found["b"][...] = 7
    assert (average.averages()["b"] == 1).all()
    listed = make(list(named.values()))
    listed.update(tuple(named.values()))
    assert isinstance(listed.averages(), list)
    nothing = make([])
    nothing.update([])
    assert nothing.averages() == []


@both_averages
def test_parameters_are_only_read(make: Any) -> None:
    params = draw(np.float32, 0)
    params[0][0, :3] = np.finfo(np.float32).smallest_subnormal, -0.0, np.nan
    before = [raw(p) for p in params]
    for p in params:
        p.flags.writeable = False
    average = make(params)
    average.update(params)
    average.update(params)
    assert [raw(p) for p in params] == before


# ---- put in place and taken back ----


def updated(make: Any, params: Any) -> Any:
    average = make(params)
    average.update([p + p for p in params])
    average.update(params)
    return average


def odd_params(dtype: type) -> list[Array]:
    """All layouts of numbers that a careless copy changes."""
    numbers = np.random.default_rng(3).standard_normal((6, 8)).astype(dtype)
    numbers[0, :3] = -0.0, np.finfo(dtype).smallest_subnormal, -np.nan
    # A NaN that carries something.
    numbers[1, :2] = np.nan
    bits = numbers.view(f"u{numbers.itemsize}")
    bits[1, :2] |= np.array([1, 77], bits.dtype)
    return list(layouts(numbers).values())


def spoil(average: Any, params: list[Array]) -> None:
    with average.applied(params):
        for p in params:
            p[...] = 5
        raise KeyError("inside")


@both_averages
@three_dtypes
def test_parameters_are_restored_to_the_bit(make: Any, dtype: type) -> None:
    params = odd_params(dtype)
    average = updated(make, params)
    before = [raw(p) for p in params]
    expected = copies(params)
    average.copy_to(expected)
    with average.applied(params):
        assert_lists(params, expected)
        assert [raw(p) for p in params] != before
    assert [raw(p) for p in params] == before
    with pytest.raises(KeyError, match="inside"):
        spoil(average, params)
    assert [raw(p) for p in params] == before
    for written, found in zip(expected, average.averages(), strict=True):
        info = np.finfo(dtype)
        np.testing.assert_allclose(written, found, info.eps, info.smallest_subnormal)


@both_averages
def test_tied_parameters_are_restored(make: Any) -> None:
    w = np.arange(6.0)
    params = [w, w, w[:4], w[2:]]
    average = updated(make, params)
    with average.applied(params):
        assert w[0] == average.averages()[0][0]
    assert_same_bits(w, np.arange(6.0))


@both_averages
def test_an_average_inside_another(make: Any) -> None:
    w = [np.ones(3)]
    one, two = make(w), make(w)
    one.update([np.full(3, 2.0)])
    two.update([np.full(3, 3.0)])
    with one.applied(w):
        with two.applied(w):
            assert (w[0] == 3).all()
        assert (w[0] == 2).all()
    assert (w[0] == 1).all()


def test_float16_parameters_take_averages_rounded_once() -> None:
    params = [np.array([0.0, 0.0], np.float16)]
    swa = SWA(params)
    for value in (1 + 2**-10, 1 + 2**-10, 2.0, 2**-24):
        swa.update([np.array([value, 65504.0], np.float16)])
    swa.copy_to(params)
    # Just above the middle of two halves, which float32 makes the middle itself; and the largest half there is.
    assert_same_bits(params[0], np.array([1 + 2**-10, 65504.0], np.float16))


# ---- resuming ----


@both_averages
@three_dtypes
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("in_a_file", [True, False])
def test_a_resumed_average_goes_on_with_the_same_bits(
    make: Any, dtype: type, named: bool, in_a_file: bool, tmp_path: Path
) -> None:
    def params(seed: int) -> Any:
        arrays = draw(dtype, seed)
        return {f"layer {i}": a for i, a in enumerate(arrays)} if named else arrays

    expected = make(params(0))
    for seed in range(6):
        expected.update(params(seed))
        if seed == 2:
            saved = expected.state_dict()
            expected.save(tmp_path / "average.npz")
    resumed = make(params(50))
    resumed.update(params(51))
    if in_a_file:
        resumed.load(tmp_path / "average.npz")
    else:
        resumed.load_state_dict(saved)
    for seed in range(3, 6):
        resumed.update(params(seed))
    assert resumed.update_count == 6
    ours, theirs = resumed.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    assert_lists(list(map(np.asarray, ours.values()))[1:], list(theirs.values())[1:])
    assert ours["average"] == make.__name__


def test_state_of_another_is_refused_and_changes_nothing() -> None:
    params = [np.ones(3), np.ones(2, np.float32)]
    ema = EMA(params)
    ema.update(params)
    before = ema.state_dict()
    for state, error, message in (
        (SWA(params).state_dict(), ValueError, "state must be of EMA, got SWA"),
        (nf.optim.SGD(params).state_dict(), ValueError, "state must be of EMA, got None"),
        (EMA(params[:1]).state_dict(), ValueError, "state lacks ema.1"),
        (EMA([*params, params[0]]).state_dict(), ValueError, "state has ema.2"),
        (EMA([np.ones(3), np.ones(3, "f")]).state_dict(), ValueError, r"state\['ema.1'\] must hav"),
        (EMA([np.ones(3), np.ones(2)]).state_dict(), TypeError, r"state\['ema.1'\] must have dt"),
    ):
        with pytest.raises(error, match=message):
            ema.load_state_dict(state)
        for name, value in ema.state_dict().items():
            np.testing.assert_array_equal(value, before[name])


def test_optimizers_states_have_the_names_they_had() -> None:
    w = {"w": np.ones(3, np.float16), "b": np.ones(2)}
    optimizer = nf.optim.Adam(w, ema_decay=0.9)
    assert list(optimizer.state_dict()) == [
        "optimizer",
        "step_count",
        "skipped_count",
        "ema_weight",
        "settings",
        "exp_avg.w",
        "exp_avg.b",
        "exp_avg_sq.w",
        "exp_avg_sq.b",
        "ema.w",
        "ema.b",
        "master.w",
    ]


# ---- a toy problem ----


def loss_of(w: Array, b: Array, x: Array, y: Array, mean: Array, var: Array) -> float:
    z, _ = nf.batch_norm(x @ w, None, None, mean, var, training=False)
    return float(np.square(z @ b - y).mean())


def test_swa_finds_the_middle_that_sgd_circles() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1, [1, 3, 0.3, 2], (600, 4))
    y = x[:, :1] - x[:, 2:3] + rng.normal(0, 0.5, (600, 1))
    y -= y.mean()
    w, b = rng.standard_normal((4, 6)), rng.standard_normal((6, 1)) / 3
    mean, var = np.zeros(6), np.ones(6)
    optimizer = nf.optim.SGD([w, b], lr=0.1)
    swa = SWA([w, b])
    losses = []
    for epoch in range(40):
        for rows in np.split(rng.permutation(600), 60):
            h = x[rows] @ w
            z, saved = nf.batch_norm(h, None, None, mean, var, training=True)
            dz = (z @ b - y[rows]) * (2 / len(rows))
            dh, _, _ = nf.batch_norm_backward(dz @ b.T, h, None, saved)
            optimizer.step([x[rows].T @ dh, z.T @ dz])
        if epoch >= 10:
            losses.append(loss_of(w, b, x, y, mean, var))
            swa.update([w, b])
    with swa.applied([w, b]):
        stale = loss_of(w, b, x, y, mean, var)
        layer = BatchNormRecomputer(mean, var)
        for rows in np.split(np.arange(600), [64, 200, 210]):
            layer.update(x[rows] @ w)
        layer.finish()
        averaged = loss_of(w, b, x, y, mean, var)
        assert_stats((mean, var), exact_stats(x @ w, 1))
    assert averaged < min(losses)
    # Then the statistics were those of the last weights.
    assert stale > averaged + 0.02


# ---- parameters that do not fit ----


@both_averages
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (np.ones(3), TypeError, "params must be a sequence or mapping of arrays, got ndarray"),
        (iter([np.ones(3)]), TypeError, "params must be a sequence or mapping"),
        (
            [np.ones(3), [1.0]],
            TypeError,
            r"params\[1\] must be a numpy.ndarray of float16, bfloat16, float3",
        ),
        ({"n": np.ones(3, int)}, TypeError, r"params\['n'\] must be .*, got dtype int64"),
        ([np.ones(3, ">f8")], TypeError, r"params\[0\] must be .*, got dtype >f8"),
        ([np.ones(3, complex)], TypeError, r"params\[0\] must be .*, got dtype complex128"),
    ],
)
def test_parameters_are_checked(
    make: Any, params: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(params)


WRONG_LAST: list[tuple[Any, type[Exception], str]] = [
    (np.ones(4), ValueError, r"params\[1\] must have shape \(2, 2\), got \(4,\)"),
    (np.ones((2, 1)), ValueError, r"params\[1\] must have shape \(2, 2\), got \(2, 1\)"),
    (np.ones((2, 2), "f"), TypeError, r"params\[1\] must have dtype float64, got float32"),
    ([[1.0, 1], [1, 1]], TypeError, r"params\[1\] must be a numpy.ndarray .*, got list"),
]


@both_averages
@pytest.mark.parametrize(("last", "error", "message"), WRONG_LAST)
def test_a_wrong_last_array_changes_nothing(
    make: Any, last: Any, error: type[Exception], message: str
) -> None:
    params = [np.ones(3), np.ones((2, 2))]
    average = make(params)
    average.update([np.full(3, 3.0), np.full((2, 2), 3.0)])
    before = average.state_dict()
    first = np.full(3, 9.0)
    for use in (average.update, average.copy_to, lambda p: average.applied(p).__enter__()):
        with pytest.raises(error, match=message):
            use([first, last])
    assert (first == 9).all()
    for name, value in average.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@both_averages
def test_read_only_parameters_are_refused_before_any_is_written(make: Any) -> None:
    params = {"a": np.ones(3), "b": FROZEN}
    average = make(params)
    average.update({"a": np.full(3, 3.0), "b": FROZEN})
    for use in (average.copy_to, lambda p: average.applied(p).__enter__()):
        with pytest.raises(ValueError, match=r"params\['b'\] must be writeable, but is read-only"):
            use(params)
    assert (params["a"] == 1).all()


@both_averages
def test_parameters_must_keep_their_form(make: Any) -> None:
    ones = np.ones(3)
    listed, named = make([ones]), make({"w": ones})
    for average, params, error, message in (
        (listed, [], ValueError, "params must have 1 arrays, got 0"),
        (listed, [ones, ones], ValueError, "params must have 1 arrays, got 2"),
        (listed, {"w": ones}, TypeError, "params must be a sequence of arrays, as params were"),
        (named, [ones], TypeError, "params must be a mapping, as params were, got list"),
        (named, {"v": ones}, ValueError, "params must have the names of params, but lacks 'w'"),
        (named, {"w": ones, "v": ones}, ValueError, "params must have the 1 names of params, got"),
    ):
        with pytest.raises(error, match=message):
            average.update(params)
        assert average.update_count == 0


@both_averages
def test_there_is_no_average_before_the_first_update(make: Any) -> None:
    params = [np.ones(3)]
    average = make(params)
    uses = (
        lambda p: average.averages(),
        average.copy_to,
        lambda p: average.applied(p).__enter__(),
    )
    for use in uses:
        with pytest.raises(ValueError, match="there is no average before the first update"):
            use(params)
    assert (params[0] == 1).all()


@pytest.mark.parametrize(
    ("decay", "error", "message"),
    [
        (1.0, ValueError, r"decay must be in \[0, 1\), got 1.0"),
        (-0.1, ValueError, r"decay must be in \[0, 1\), got -0.1"),
        (np.nan, ValueError, r"decay must be in \[0, 1\), got nan"),
        ("slow", TypeError, "decay must be a real number, got str"),
    ],
)
def test_decay_is_checked(decay: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EMA([np.ones(3)], decay)
    ema = EMA([np.ones(3)])
    ema.update([np.ones(3)])
    ema.decay = decay
    with pytest.raises(error, match=message):
        ema.update([np.zeros(3)])
    assert ema.update_count == 1
    assert (ema.averages()[0] == 1).all()


# ---- the module ----


def test_every_public_name_has_an_example() -> None:
    names = {test.name for test in examples()}
    assert {f"nnfast.averaging.{name}" for name in averaging.__all__} <= names


def test_it_is_loaded_when_first_used() -> None:
    code = """
import sys, nnfast
print("nnfast.averaging" in sys.modules, "averaging" in dir(nnfast))
print(nnfast.averaging.EMA.__name__)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False True\nEMA\n"
