"""Averages of parameters, checkpoints and predictions: values, bits restored, resuming, whole data, files, errors."""

import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast import averaging
from nnfast._testing import forced
from nnfast.averaging import EMA, SWA, BatchNormRecomputer, mean_of_checkpoints, mean_of_predictions
from test_examples import examples
from ulp import assert_ulp

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
three_dtypes = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
both_averages = pytest.mark.parametrize("make", [EMA, SWA])
SHAPES = [(7, 33), (), (130,), (0, 4), (3, 5, 2)]


def draw(dtype: type, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(1, 1, shape).astype(dtype) for shape in SHAPES]


def copies(arrays: list[Array]) -> list[Array]:
    return [array.copy() for array in arrays]


def assert_lists(actual: list[Array], expected: list[Array]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert_same_bits(a, b)


def raw(array: Array) -> bytes:
    """Bits, those inside NaN too."""
    return array.tobytes()


def kept(dtype: type) -> type:
    return np.float32 if dtype == np.float16 else dtype


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


# ---- statistics of whole data ----


def data(dtype: type, batches: int, seed: int = 0) -> list[Array]:
    """Batches of unequal sizes, of channels with large and small means."""
    rng = np.random.default_rng(seed)
    mean, std = [0.0, 1e4, -3.0], [1.0, 1.0, 1e-3]
    return [rng.normal(mean, std, (rng.integers(1, 60), 3)).astype(dtype) for _ in range(batches)]


def exact_stats(x: Array, correction: int) -> tuple[Array, Array]:
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=0)
    return mean, np.square(wide - mean).sum(axis=0) / (len(x) - correction)


@three_dtypes
@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("batches", [1, 2, 3, 7, 64, 501])
def test_statistics_are_those_of_all_data_at_once(
    dtype: type, correction: int, batches: int
) -> None:
    pieces = data(dtype, batches)
    mean, var = np.zeros((2, 3), kept(dtype))
    layer = BatchNormRecomputer(mean, var, running_var_correction=correction)
    for piece in pieces:
        layer.update(piece)
    layer.finish()
    whole = np.concatenate(pieces)
    assert_stats((mean, var), exact_stats(whole, correction))
    # As batch_norm updates them from all data in one call.
    at_once = np.zeros((2, 3), kept(dtype))
    nf.batch_norm(
        whole, None, None, *at_once, training=True, momentum=1, running_var_correction=correction
    )
    assert_stats((mean, var), tuple(at_once.astype(np.longdouble)))


def assert_stats(found: tuple[Array, Array], expected: tuple[Array, Array]) -> None:
    """Within 2 ulp in float32. In float64 the means of the batches are themselves rounded, which the variance feels."""
    (mean, var), (true_mean, true_var) = found, expected
    if mean.dtype == np.float32:
        assert_ulp(mean, true_mean.astype(float), 2)
        assert_ulp(var, true_var.astype(float), 2)
        return
    eps, std = np.finfo(float).eps, np.sqrt(true_var)
    assert (np.abs(mean - true_mean) <= 2 * eps * np.maximum(np.abs(true_mean), std)).all()
    assert (np.abs(var - true_var) <= eps * std * (16 * std + np.abs(true_mean))).all()


def test_many_batches_add_no_rounding_and_no_memory() -> None:
    x = np.random.default_rng(0).normal(1e6, 1, (20_000, 2, 1))
    mean, var = np.zeros((2, 1))
    layer = BatchNormRecomputer(mean, var)
    for piece in x:
        layer.update(piece)
        assert len(layer._pieces) <= 15
    layer.finish()
    assert_stats((mean, var), exact_stats(x.reshape(-1, 1), 1))


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 4, 2), 1), ((5, 4, 2, 3), -1), ((5, 3), 1)])
def test_statistics_along_any_axis(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(0).normal(2, 3, shape)
    mean, var = np.zeros((2, 3))
    layer = BatchNormRecomputer(mean, var, axis=axis)
    layer.update(x[:0])
    layer.update(x[:2])
    layer.update(x[2:])
    layer.finish()
    rows = np.moveaxis(x, axis, -1).reshape(-1, 3)
    np.testing.assert_allclose(mean, rows.mean(axis=0), 1e-14)
    np.testing.assert_allclose(var, rows.var(axis=0, ddof=1), 1e-14)


def test_more_batches_may_follow() -> None:
    pieces = data(np.float64, 5)
    mean, var = np.zeros((2, 3))
    layer = BatchNormRecomputer(mean, var)
    for seen, piece in enumerate(pieces, 1):
        layer.update(piece)
        mean[:], var[:] = 5, 5
        layer.finish()
        expected = exact_stats(np.concatenate(pieces[:seen]), 1)
        np.testing.assert_allclose(mean, expected[0].astype(float), 1e-14)
        np.testing.assert_allclose(var, expected[1].astype(float), 1e-12)


def test_too_few_values_write_nothing() -> None:
    mean, var = np.zeros(2), np.ones(2)
    layer = BatchNormRecomputer(mean, var)
    with pytest.raises(ValueError, match="batches must hold at least 2 values a channel, got 0"):
        layer.finish()
    layer.update(np.full((1, 2), 7.0))
    with pytest.raises(ValueError, match="batches must hold at least 2 values a channel, got 1"):
        layer.finish()
    with pytest.raises(ValueError, match="x must have 2 channels, got 3"):
        layer.update(np.ones((1, 3)))
    biased = BatchNormRecomputer(mean, var, running_var_correction=0)
    with pytest.raises(ValueError, match="batches must hold at least 1 values a channel, got 0"):
        biased.finish()
    assert_same_bits(np.array([mean, var]), np.array([[0.0, 0], [1, 1]]))
    var.flags.writeable = False
    layer.update(np.ones((1, 2)))
    with pytest.raises(ValueError, match="running_var must be writeable"):
        layer.finish()
    assert_same_bits(mean, np.zeros(2))
    var.flags.writeable = True
    layer.finish()  # and the batch that did not fit was not counted
    assert_same_bits(np.array([mean, var]), np.array([[4.0, 4], [18, 18]]))


FROZEN = np.ones(3)
FROZEN.flags.writeable = False
MEMORY = np.ones(5)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([0.0], np.ones(1)), {}, TypeError, "running_mean must be a numpy.ndarray of float32 or"),
        ((np.ones(3), np.ones(3, int)), {}, TypeError, "running_var .*, got dtype int64"),
        ((np.ones(3, "e"), np.ones(3)), {}, TypeError, "running_mean .*, got dtype float16"),
        ((np.ones((2, 2)), np.ones(4)), {}, ValueError, r"running_mean must have shape \(4,\)"),
        ((np.ones((3, 1)), np.ones(3)), {}, ValueError, r"running_var must have the shape of run"),
        ((np.ones(3), np.ones(3)), {"convention": "jax"}, ValueError, "convention must be 'torch'"),
        ((np.ones(3), np.ones(4)), {}, ValueError, r"running_var must have shape \(3,\), got \(4"),
        ((FROZEN, np.ones(3)), {}, ValueError, "running_mean must be writeable"),
        ((np.ones(3), FROZEN), {}, ValueError, "running_var must be writeable"),
        ((MEMORY[:3], MEMORY[2:]), {}, ValueError, "running_mean and running_var must not share"),
        ((np.ones(3), np.ones(3)), {"axis": 1.0}, TypeError, "axis must be an int, got float"),
        (
            (np.ones(3), np.ones(3)),
            {"running_var_correction": 2},
            ValueError,
            "running_var_correction must be 0 or 1, got 2",
        ),
    ],
)
def test_running_arrays_are_checked(
    arguments: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BatchNormRecomputer(*arguments, **settings)


def test_running_arrays_of_a_convention_in_its_shape() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50))
    for convention, correction in (("torch", 1), ("keras", 0), ("cs231n", 0)):
        mean, var = np.zeros((4, 1)), np.ones((4, 1))
        layer = BatchNormRecomputer(mean, var, axis=0, convention=convention)
        layer.update(x)
        layer.finish()
        np.testing.assert_allclose(mean, x.mean(axis=1, keepdims=True), rtol=1e-13)
        np.testing.assert_allclose(var, x.var(axis=1, ddof=correction, keepdims=True), rtol=1e-13)


# ---- checkpoints ----


class OneAtATime:
    """Makes arrays, and asserts each time that those before have been let go of."""

    def __init__(self) -> None:
        self.alive: list[weakref.ref[Array]] = []

    def __call__(self, value: float) -> Array:
        assert all(earlier() is None for earlier in self.alive)
        array = np.full(1000, float(value))
        self.alive.append(weakref.ref(array))
        return array


@three_dtypes
def test_checkpoints_from_arrays_and_from_files(dtype: type, tmp_path: Path) -> None:
    names = ["w", "b", "c", "d", "e"]
    lists = [draw(dtype, seed) for seed in range(5)]
    dicts = [dict(zip(names, arrays, strict=True)) for arrays in lists]
    paths = []
    for i, arrays in enumerate(dicts):
        backwards = dict(reversed(arrays.items())) if i else arrays
        paths.append(tmp_path / f"{i}.npz")
        np.savez(paths[-1], **backwards)
    mean = mean_of_checkpoints(lists)
    for got, *members in zip(mean, *lists, strict=True):
        assert got.dtype == dtype
        expected = np.mean([m.astype(np.longdouble) for m in members], axis=0)
        if dtype == np.float64:
            np.testing.assert_allclose(got, expected.astype(float), 0, 4 * np.finfo(dtype).eps * 6)
        else:
            # Rounded once: half an ulp of the true mean.
            assert_ulp(got, expected.astype(float), 0.5 + 2**-20)
    for checkpoints in (dicts, paths, map(str, paths), [dicts[0], *paths[1:]]):
        found = mean_of_checkpoints(checkpoints)
        assert list(found) == names
        assert_lists(list(found.values()), mean)
    assert_lists(mean_of_checkpoints([lists[0]]), lists[0])


def test_one_checkpoint_at_a_time() -> None:
    member = OneAtATime()
    assert (mean_of_checkpoints([member(k)] for k in range(5))[0] == 2).all()
    assert len(member.alive) == 5


def test_a_state_is_no_checkpoint_of_parameters(tmp_path: Path) -> None:
    w = np.ones(3, np.float32)
    swa = SWA([w])
    swa.update([w])
    swa.save(tmp_path / "swa.npz")
    with pytest.raises(TypeError, match=r"checkpoints\[0\]\['average'\] must be .*, got dtype <U3"):
        mean_of_checkpoints([tmp_path / "swa.npz"])


def test_a_file_with_pickles_is_refused(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, w=np.ones(2))
    np.savez(bad, w=np.array([Evil(), Evil()], object))
    with pytest.raises(
        ValueError, match=r"checkpoints\[1\] must be an .npz file .* without pickle"
    ):
        mean_of_checkpoints([good, bad])
    assert not ran.exists()
    np.load(bad, allow_pickle=True)["w"]
    assert ran.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04N.", b"text", "npy"])
def test_a_file_that_is_no_npz_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoints\[0\] must be an .npz file .*file.npz"):
        mean_of_checkpoints([path])
    with pytest.raises(FileNotFoundError):
        mean_of_checkpoints([tmp_path / "nowhere.npz"])


ONES = {"w": np.ones((2, 3)), "b": np.ones(3)}


@pytest.mark.parametrize(
    ("checkpoints", "error", "message"),
    [
        ([], ValueError, "checkpoints must not be empty"),
        (5, TypeError, "checkpoints must be a sequence or another iterable, got int"),
        ("model.npz", TypeError, "checkpoints must be .*, got str"),
        (Path("model.npz"), TypeError, "checkpoints must be .*, got "),
        (ONES, TypeError, "checkpoints must be .*, got dict"),
        (
            [ONES["w"]],
            TypeError,
            r"checkpoints\[0\] must be a sequence or mapping of arrays, got n",
        ),
        (
            [[1.0]],
            TypeError,
            r"checkpoints\[0\]\[0\] must be a numpy.ndarray of float16, bfloat16, float32 or",
        ),
        ([{"n": np.ones(1, int)}], TypeError, r"checkpoints\[0\]\['n'\] must .*, got dtype int64"),
        ([[np.ones(3, ">f4")]], TypeError, r"checkpoints\[0\]\[0\] must .*, got dtype >f4"),
        (
            [ONES, {"w": ONES["w"]}],
            ValueError,
            r"checkpoints\[1\] must have the names of checkpoints\[0\], but lacks 'b'",
        ),
        (
            [ONES, ONES, {**ONES, "c": np.ones(1)}],
            ValueError,
            r"checkpoints\[2\] must have the 2 names of checkpoints\[0\], got 3",
        ),
        (
            [ONES, list(ONES.values())],
            TypeError,
            r"checkpoints\[1\] must be a mapping, as checkpoints\[0\] were, got list",
        ),
        ([list(ONES.values()), ONES], TypeError, r"checkpoints\[1\] must be a sequence of arrays"),
        ([[np.ones(3)], []], ValueError, r"checkpoints\[1\] must have 1 arrays, got 0"),
        (
            [ONES, {**ONES, "b": np.ones(4)}],
            ValueError,
            r"checkpoints\[1\]\['b'\] must have shape \(3,\), got \(4,\)",
        ),
        (
            [ONES, {**ONES, "b": np.ones(1)}],
            ValueError,
            r"checkpoints\[1\]\['b'\] must have shape \(3,\), got \(1,\)",
        ),
        (
            [ONES, {**ONES, "b": np.ones(3, "f")}],
            TypeError,
            r"checkpoints\[1\]\['b'\] must have dtype float64, got float32",
        ),
    ],
)
def test_checkpoints_are_checked(checkpoints: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mean_of_checkpoints(checkpoints)


# ---- ensembles ----


def probabilities(dtype: type, members: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [nf.softmax(rng.normal(0, 3, (9, 5)).astype(dtype)) for _ in range(members)]


def reference_mean(members: list[Array], weights: Any) -> Array:
    shares = np.array(weights, np.longdouble)
    wide = [m.astype(np.longdouble) for m in members]
    mean: Array = sum(s * m for s, m in zip(shares, wide, strict=True)) / shares.sum()
    return mean


@three_dtypes
@given(
    weights=st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 100),
)
def test_the_weighted_mean(dtype: type, weights: list[float], seed: int) -> None:
    members = probabilities(dtype, len(weights), seed)
    got = mean_of_predictions(members, weights)
    assert got.dtype == dtype
    expected = reference_mean(members, weights)
    if dtype == np.float64:
        # Products, sums and the quotient of numbers that are not negative.
        assert_ulp(got, expected, 2 * len(weights) + 1)
    else:
        assert_ulp(got, expected.astype(float), 0.5 + 2**-20)


@three_dtypes
def test_equal_weights(dtype: type) -> None:
    members = probabilities(dtype, 3)
    expected = mean_of_predictions(members)
    reference = reference_mean(members, [1, 1, 1])
    assert_ulp(expected, reference if dtype == np.float64 else reference.astype(float), 2)
    for weights in ([1, 1, 1], (4.0, 4.0, 4.0), np.ones(3, np.float32)):
        assert_same_bits(mean_of_predictions(members, weights), expected)
    assert_same_bits(mean_of_predictions(np.array(members)), expected)
    assert_same_bits(mean_of_predictions(m for m in members), expected)


@three_dtypes
def test_an_ensemble_of_one(dtype: type) -> None:
    (p,) = probabilities(dtype, 1)
    assert_same_bits(mean_of_predictions([p]), p)
    assert_same_bits(mean_of_predictions([p], [1]), p)
    log_p = nf.log_softmax(np.log(p))
    assert_ulp(mean_of_predictions([log_p], kind="log"), log_p.astype(np.longdouble), 2)


@three_dtypes
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_the_geometric_mean(dtype: type, axis: int, weights: Any) -> None:
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 3, (9, 5)).astype(dtype) for _ in range(3)]
    got = mean_of_predictions(logits, weights, kind="log", axis=axis)
    assert got.dtype == dtype
    # Logits differ from log-probabilities by what the normalisation takes away.
    log_p = [np.asarray(x, np.longdouble) for x in logits]
    log_p = [x - np.log(np.exp(x).sum(axis=axis, keepdims=True)) for x in log_p]
    geometric = np.exp(reference_mean(log_p, weights or [1, 1, 1]))
    expected = np.log(geometric / geometric.sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(got, expected.astype(float), 2 * np.finfo(dtype).eps)
    again = mean_of_predictions((x.astype(dtype) for x in log_p), weights, kind="log", axis=axis)
    np.testing.assert_allclose(again, got, 0, 8 * np.finfo(dtype).eps * np.abs(got).max())


def test_excluded_classes() -> None:
    sure, unsure = np.array([[0.0, -np.inf]]), np.log([[0.5, 0.5]])
    found = mean_of_predictions([sure, unsure], kind="log")
    assert_same_bits(found, np.array([[0.0, -np.inf]]))
    against = mean_of_predictions([sure, sure[:, ::-1]], kind="log")
    assert np.isnan(against).all()


def test_a_member_without_weight_takes_no_part() -> None:
    good, bad = np.array([0.25, 0.75]), np.array([np.nan, -np.inf])
    assert_same_bits(mean_of_predictions([bad, good, bad], [0, 2, 0]), good)


@both_dtypes
def test_out(dtype: type) -> None:
    members = probabilities(dtype, 3)
    for kind in ("probabilities", "log"):
        expected = mean_of_predictions(members, kind=kind)  # type: ignore[arg-type]
        for out in layouts(np.zeros_like(expected)).values():
            assert mean_of_predictions(members, kind=kind, out=out) is out  # type: ignore[arg-type]
            assert_same_bits(out, expected)
        mine = copies(members)
        assert mean_of_predictions(mine, kind=kind, out=mine[0]) is mine[0]  # type: ignore[arg-type]
        assert_same_bits(mine[0], expected)
        assert_lists(mine[1:], members[1:])


def test_integers_and_scalars_are_predictions_too() -> None:
    assert_same_bits(mean_of_predictions([[1, 0], [0, 0]]), np.array([0.5, 0]))
    assert mean_of_predictions([1.0, 2.0]) == 1.5


def test_one_member_at_a_time() -> None:
    for weights in (None, [0, 1, 0, 1, 0]):
        member = OneAtATime()
        assert (mean_of_predictions((member(k) for k in range(5)), weights) == 2).all()
        assert len(member.alive) == 5


P = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([],), {}, ValueError, "predictions must not be empty"),
        ((5,), {}, TypeError, "predictions must be a sequence or another iterable, got int"),
        (({"a": P},), {}, TypeError, "predictions must be .*, got dict"),
        (([P, "x"],), {}, TypeError, r"predictions\[1\] must be an array of real numbers"),
        (([P, P[0]],), {}, ValueError, r"predictions\[1\] must have shape \(2, 2\), got \(2,\)"),
        (([P, P.astype("f")],), {}, TypeError, r"predictions\[1\] must have dtype float64, got fl"),
        (([P, P], [1]), {}, ValueError, "weights must be one for each prediction, got only 1"),
        (([P], [1, 2]), {}, ValueError, "weights must be one for each of 1 predictions, got 2"),
        (([P, P], [2, -1]), {}, ValueError, r"weights must not be negative.*, got \[2, -1\]"),
        (([P, P], [0, 0]), {}, ValueError, r"weights must not be .* all 0, got \[0, 0\]"),
        (([P, P], [1, np.nan]), {}, ValueError, "weights must not be negative, infinite"),
        (([P, P], [1, np.inf]), {}, ValueError, "weights must not be negative, infinite"),
        (([P, P], [[1, 1]]), {}, ValueError, r"weights must be one number .* got shape \(1, 2\)"),
        (([P], ["a"]), {}, TypeError, "weights must be an array of real numbers"),
        (([P],), {"kind": "median"}, ValueError, 'kind must be "probabilities" or "log", got'),
        (([P],), {"kind": "log", "axis": 2}, ValueError, "axis must be an axis of predictions"),
        (([P],), {"out": np.zeros(2)}, ValueError, r"out must have shape \(2, 2\), got \(2,\)"),
        (([P],), {"out": np.zeros((2, 2), "f")}, TypeError, "out must have dtype float64"),
        (([P],), {"out": [0.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_predictions_are_checked(
    arguments: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    out = np.full((2, 2), 7.0)
    with pytest.raises(error, match=message):
        mean_of_predictions(*arguments, **{"out": out, **settings})
    assert (out == 7).all()


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
