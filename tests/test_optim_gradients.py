"""What is done to gradients before a rule: sums of several calls, scales, and clipping as each convention has it."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from nnfast.optim.accumulation import Accumulated
from optim_rules import (
    DTYPES,
    KERNELS,
    Array,
    Rule,
    assert_same_arrays,
    copies,
    draw,
    every_dtype,
    everything,
    kept_params,
    label,
    start,
)
from pairs import in_pairs
from tests.reference.optim import block_clipped, clip_factor, unit_clipped

FULL = {"clip_value": 0.7, "ema_decay": 0.9}
CLIPS = [{}, FULL, {"clip_norm": 0.5}, {"clip_global_norm": 2.0}, {"clip_block_rms": 0.1}]
some_kernels = pytest.mark.parametrize("rule", KERNELS[::4], ids=label)


def kept(arrays: list[Array]) -> list[Array]:
    """In the dtype of the state."""
    return [np.asarray(a, np.float32 if a.dtype == np.float16 else a.dtype) for a in arrays]


def summed(*grads: list[Array]) -> list[Array]:
    total = kept(grads[0])
    for each in grads[1:]:
        total = [np.asarray(a + b) for a, b in zip(total, kept(each), strict=True)]
    return total


def scaled(grads: list[Array], scale: float) -> list[Array]:
    return [np.asarray(g * g.dtype.type(scale)) for g in grads]


# ---- sums and scales ----


@in_pairs(rule=KERNELS, dtype=DTYPES, options=CLIPS)
def test_a_step_of_sums_is_that_of_their_scaled_sum(rule: Rule, dtype: type, options: Any) -> None:
    """float16 as float32: the sums are."""
    optimizer = rule.optimizer(start(dtype), **options)
    plain = rule.optimizer(kept(start(dtype)), **options)
    for t in range(0, 9, 3):
        parts = [draw(dtype, t + i) for i in range(3)]
        optimizer.accumulate(parts[0])
        optimizer.accumulate(parts[1])
        found = optimizer.step(parts[2], grad_scale=0.25, stats=t == 3)
        expected = plain.step(scaled(summed(*parts), 0.25), stats=t == 3)
        if t == 3:
            for name in ("grad_norm", "update_norm", "param_norm", "nans", "infinities"):
                assert_same_bits(getattr(found, name), getattr(expected, name))
    for mine, theirs in zip(kept_params(optimizer), plain.params, strict=True):
        assert_same_bits(mine, theirs)
    for name, arrays in plain.state.items():
        for mine, theirs in zip(optimizer.state[name], arrays, strict=True):
            assert_same_bits(mine, theirs)


@some_kernels
@every_dtype
@pytest.mark.parametrize("options", [{}, {"clip_global_norm": 2.0}], ids=str)
def test_sums_alone_and_one_gradient_alone(rule: Rule, dtype: type, options: Any) -> None:
    made = [rule.optimizer(start(dtype), **options) for _ in range(3)]
    for t in range(4):
        grads = draw(dtype, t)
        made[0].accumulate(grads)
        made[0].step()
        made[1].step(grads)
        made[2].accumulate([None] * len(grads))
        made[2].step(grads)
    for other in made[1:]:
        assert_same_arrays(everything(made[0]), everything(other))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.3, 1 / 3, 1e-8, 7.0])
@pytest.mark.parametrize("options", [{}, {"clip_value": 0.7}, {"maximize": True}], ids=str)
def test_a_scale_multiplies_the_gradient_once(
    isa: str, dtype: type, scale: float, options: Any
) -> None:
    one, other = (nf.optim.AdamW(start(dtype), lr=0.1, **options) for _ in range(2))
    for t in range(4):
        one.step(draw(dtype, t), grad_scale=scale)
        other.step(scaled(draw(dtype, t), scale))
    assert_same_arrays(everything(one), everything(other))


def test_scales_of_float16_are_of_float32() -> None:
    """65504 / 65536, which float16 cannot multiply, as it cannot add its gradients."""
    w = np.zeros(3, np.float16)
    opt = nf.optim.SGD([w], lr=1.0)
    g = np.full(3, 65504, np.float16)
    for _ in range(3):
        opt.accumulate([g])
    opt.step([g], grad_scale=2.0**-17)
    assert_same_bits(w, np.full(3, -4 * 65504 / 2**17, np.float16))
    assert_same_bits(opt._master[0], np.full(3, -4 * 65504 / 2**17, np.float32))


WAYS = [(isa, threads) for isa in SAME_BITS_ISAS for threads in (1, 2, 7)]


@some_kernels
@every_dtype
def test_bits_do_not_depend_on_threads_isa_and_layout(rule: Rule, dtype: type) -> None:
    rng = np.random.default_rng(0)
    first, *grads = rng.standard_normal((4, 67, 71)).astype(dtype)

    def run(layout: str = "contiguous", **options: Any) -> dict[str, Array]:
        optimizer = rule.optimizer([layouts(first)[layout]], **options)
        for _ in range(2):
            optimizer.accumulate([layouts(grads[0])[layout]])
            optimizer.accumulate([grads[1]])
            optimizer.step([layouts(grads[2])[layout]], grad_scale=0.3)
            optimizer.accumulate([grads[1]])
            optimizer.step(grad_scale=0.7)
        return everything(optimizer)

    for options in ({}, FULL, {"clip_norm": 0.1}):
        expected = run(**options)
        for isa, threads in WAYS:
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_arrays(run(**options), expected)
        for name in layouts(first):
            assert_same_arrays(run(name, **options), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_accumulate_as_mappings_do(dtype: type) -> None:
    rng = np.random.default_rng(1)
    shapes = ((7, 33), (), (40,))
    first = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    names = "abc"
    params = copies(first)
    one, other = nf.optim.Adam(params), nf.optim.Adam(dict(zip(names, copies(first), strict=True)))
    for _ in range(3):
        for _ in range(3):
            grads = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
            one.accumulate(grads)
            other.accumulate(dict(zip(names, grads, strict=True)))
        one.step(grads, grad_scale=0.25)
        other.step(dict(zip(names, grads, strict=True)), grad_scale=0.25)
        one.accumulate(grads)
        other.accumulate(dict(zip(names, grads, strict=True)))
        one.step()
        other.step()
    for mine, theirs in zip(one.params, other.params, strict=True):
        assert_same_bits(mine, theirs)
    assert one.step_count == other.step_count == 6


def test_wrong_gradients_of_a_list_are_not_added() -> None:
    w = np.ones((3, 4))
    opt = nf.optim.SGD([w], lr=1.0)
    for _ in range(2):  # the memory of the sums is there from the second time on
        opt.accumulate([np.ones((3, 4))])
        wrong: tuple[Any, ...] = (np.ones((4, 3)), np.ones((3, 4), np.float32), w, "text")
        for grad in wrong:
            with pytest.raises((TypeError, ValueError)):
                opt.accumulate([grad])
        with pytest.raises(ValueError, match="one array for each"):
            opt.accumulate([])
        before = opt.state_dict()["accumulated.0"]
        assert (before == 1).all()
        opt.accumulate([np.full((4, 3), 2.0).T])
        assert (opt.state_dict()["accumulated.0"] == 3).all()
        opt.step()
        assert "accumulated.0" not in opt.state_dict()
    assert (w == 1 - 2 * 3).all()


def test_gradients_that_are_missing() -> None:
    w, b = np.zeros(2), np.zeros(1)
    opt = nf.optim.SGD({"w": w, "b": b}, lr=1.0, ema_decay=0.5, ema_bias_correction=False)
    opt.accumulate({"w": np.ones(2), "b": None})
    stats = opt.step(stats=True)
    assert (w.tolist(), b.tolist()) == ([-1, -1], [0])
    np.testing.assert_allclose(stats.grad_norm, [2**0.5, 0])
    opt.accumulate({"b": np.ones(1), "w": None})
    opt.step({"b": None, "w": np.ones(2)})
    assert (w.tolist(), b.tolist()) == ([-2, -2], [-1])
    assert opt.averaged_params()["b"].tolist() == [-0.5]
    with pytest.raises(ValueError, match="grads must be given where nothing was accumulated"):
        opt.step()


def test_sums_have_no_nan_of_the_last_ones_and_keep_the_sign_of_zero() -> None:
    w = np.zeros(2)
    opt = nf.optim.SGD([w], lr=1.0, momentum=0.5)
    opt.accumulate([np.full(2, np.nan)])
    opt.step()
    w[:] = opt.state["momentum_buffer"][0][:] = 0
    opt.accumulate([np.full(2, -0.0)])
    opt.step()
    assert_same_bits(opt.state["momentum_buffer"][0], np.zeros(2))
    opt.state["momentum_buffer"][0][:] = -0.0
    opt.accumulate([np.full(2, -0.0)])
    opt.step()
    assert_same_bits(opt.state["momentum_buffer"][0], np.full(2, -0.0))


def test_a_skipped_step_takes_what_was_accumulated() -> None:
    opt = nf.optim.SGD([np.zeros(2)], lr=1.0, skip_nonfinite=True)
    opt.accumulate([np.array([np.inf, 1.0])])
    assert opt.step([np.ones(2)], stats=True).skipped
    opt.step([np.ones(2)])
    assert opt.params[0].tolist() == [-1, -1]
    assert (opt.step_count, opt.skipped_count) == (1, 1)


def test_parameters_that_are_handed_over() -> None:
    opt = nf.optim.SGD([np.zeros(2)], lr=1.0)
    opt.accumulate([np.ones(2)])
    other = np.full(2, 5.0)
    opt.step(params=[other], grad_scale=0.5)
    assert other.tolist() == [4.5, 4.5]
    unbound = opt.clone()
    with pytest.raises(ValueError, match="a clone without parameters must be given them"):
        unbound.accumulate([np.ones(2)])
    unbound.step([np.ones(2)], params=[other], grad_scale=0.5)
    assert other.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ([np.ones(3)], ValueError, "grads must have one array for each of the 2 parameters"),
        (
            [np.ones(3), np.ones(3, "e")],
            ValueError,
            r"grads\[1\] must have shape \(2,\), got \(3,\)",
        ),
        ([np.ones(3), np.ones(2, "f")], TypeError, r"grads\[1\] must have dtype float16, got fl"),
        ([np.ones(3, "f"), np.ones(2, "e")], TypeError, r"grads\[0\] must have dtype float64"),
        ([np.ones(3), "x"], TypeError, r"grads\[1\] must be a numpy.ndarray, got str"),
        (np.ones(3), TypeError, "grads must be a sequence or mapping of arrays"),
        ({"w": np.ones(3)}, TypeError, "grads must be a sequence of arrays"),
    ],
)
def test_errors_change_nothing(grads: Any, error: type[Exception], message: str) -> None:
    opt = nf.optim.Adam([np.zeros(3), np.zeros(2, np.float16)])
    for _ in range(2):
        before = everything(opt)
        for call in (opt.accumulate, opt.step):
            with pytest.raises(error, match=message):
                call(grads)
            assert_same_arrays(everything(opt), before)
        opt.accumulate([np.ones(3), np.ones(2, np.float16)])
    assert {"accumulated.0", "accumulated.1"} < before.keys() | everything(opt).keys()


@pytest.mark.parametrize(
    ("scale", "error"),
    [
        *((scale, ValueError) for scale in (0.0, -1.0, np.inf, np.nan)),
        *((scale, TypeError) for scale in ("x", None, 1j)),
    ],
)
def test_scales_are_checked(scale: Any, error: type[Exception]) -> None:
    opt = nf.optim.SGD([np.zeros(3)])
    with pytest.raises(error, match="grad_scale must be"):
        opt.step([np.ones(3)], grad_scale=scale)
    assert opt.step_count == 0
    opt.step([np.ones(3)], grad_scale=2)
    opt.step([np.ones(3)], grad_scale=np.float32(2))
    assert opt.step_count == 2


# ---- saved ----


def by_dict(opt: Any, path: Path) -> Any:
    made = nf.optim.Adam(start(np.float16), ema_decay=0.5)
    made.accumulate(draw(np.float16, 50))
    made.load_state_dict(opt.state_dict())
    for mine, theirs in zip(made.params, opt.params, strict=True):
        mine[...] = theirs
    return made


def by_file(opt: Any, path: Path) -> Any:
    made = nf.optim.Adam(copies(opt.params), ema_decay=0.5)
    opt.save(path / "state.npz")
    made.load(path / "state.npz")
    return made


def by_pickle(opt: Any, path: Path) -> Any:
    return pickle.loads(pickle.dumps(opt))


def by_copy(opt: Any, path: Path) -> Any:
    return copy.deepcopy(opt)


@pytest.mark.parametrize("way", [by_dict, by_file, by_pickle, by_copy])
def test_what_was_accumulated_is_resumed(way: Any, tmp_path: Path) -> None:
    opt = nf.optim.Adam(start(np.float16), ema_decay=0.5)
    for t in range(3):
        opt.step(draw(np.float16, t))
    opt.accumulate([*draw(np.float16, 3)[:2], None, None, None])
    other = way(opt, tmp_path)
    assert_same_arrays(everything(other), everything(opt))
    for each in (opt, other):
        each.accumulate(draw(np.float16, 4))
        each.step(draw(np.float16, 5), grad_scale=0.5)
    assert_same_arrays(everything(other), everything(opt))
    other.load_state_dict(opt.state_dict())  # without anything
    with pytest.raises(ValueError, match="grads must be given where nothing"):
        other.step()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"accumulated.0": np.ones(2)}, ValueError, r"must have shape \(3,\), got \(2,\)"),
        ({"accumulated.0": np.ones(3, "f")}, TypeError, "must have dtype float64, got float32"),
        ({"accumulated.1": np.ones(3)}, ValueError, "state has accumulated.1"),
        ({"accumulated_indices.0": np.ones(1, int)}, ValueError, "and accumulated_values.0"),
    ],
)
def test_states_of_other_parameters(given: Any, error: type[Exception], message: str) -> None:
    opt = nf.optim.SGD([np.zeros(3)])
    opt.accumulate([np.ones(3)])
    before = everything(opt)
    with pytest.raises(error, match=message):
        opt.load_state_dict(opt.state_dict() | given)
    assert_same_arrays(everything(opt), before)


# ---- clipping by convention ----

CONVENTIONS = ["torch", "keras", "optax", "cs231n"]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("option", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("size", [1e-5, 0.3, 4.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_norms_are_clipped_as_the_convention_has_it(
    convention: Any, option: str, size: float, scale: float
) -> None:
    """With norms of 1e-5 PyTorch's 1e-6 is a tenth."""
    limit = size / 3
    shapes = [(4, 3), (7,), (0,)]
    params = [np.zeros(shape) for shape in shapes]
    opt = nf.optim.SGD(params, lr=1.0, convention=convention, momentum=0.0, **{option: limit})
    rng = np.random.default_rng(1)
    for _ in range(50):
        grads = [size / 2 * rng.standard_normal(shape) for shape in shapes]
        before = copies(params)
        opt.step(grads, grad_scale=scale)
        norms = [np.sqrt((g * g).sum()) * scale for g in grads]
        if option == "clip_global_norm":
            norms = [np.sqrt(sum(n * n for n in norms))] * 3
        for p, b, g, norm in zip(params, before, grads, norms, strict=True):
            factor = clip_factor(option, convention, norm, limit)
            bound = 1e-14 * size + 4 * np.finfo(np.float64).eps * np.abs(b).max(initial=0)
            np.testing.assert_allclose(b - p, g * scale * factor, rtol=0, atol=bound)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("option", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_norms_that_are_not_finite(convention: Any, option: str, bad: float) -> None:
    w = np.zeros(3)
    opt = nf.optim.SGD([w], lr=1.0, convention=convention, momentum=0.0, **{option: 1.0})
    opt.step([np.array([bad, 2.0, 3.0])])
    with np.errstate(invalid="ignore"):
        expected = -np.array([bad, 2.0, 3.0]) * clip_factor(option, convention, bad, 1.0)
    np.testing.assert_array_equal(w, expected)


def test_scaled_norms_do_not_overflow() -> None:
    w = np.zeros(4, np.float32)
    opt = nf.optim.SGD([w], lr=1.0, clip_norm=1.0, convention="optax", skip_nonfinite=True)
    stats = opt.step([np.full(4, 1e30, np.float32)], grad_scale=1e30, stats=True)
    np.testing.assert_allclose(w, -0.5, rtol=1e-6)
    np.testing.assert_allclose(stats.grad_norm, 2e60, rtol=1e-6)
    wide = np.zeros(4)
    opt = nf.optim.SGD([wide], lr=1.0, clip_norm=1.0, convention="keras")
    opt.step([np.full(4, 1e300)], grad_scale=1e-200)
    np.testing.assert_allclose(wide, -0.5, rtol=1e-12)


@every_dtype
@pytest.mark.parametrize("limit", [0.05, 0.9, 30.0])
def test_blocks_are_clipped_as_optax_does(isa: str, dtype: type, limit: float) -> None:
    params = kept(start(dtype))
    opt = nf.optim.SGD(params, lr=1.0, clip_block_rms=limit)
    expected = [p.astype(np.float64) for p in params]
    for t in range(10):
        grads = kept(draw(dtype, t))
        opt.step(grads)
        wide = [g.astype(np.float64) for g in grads]
        expected = [
            p - block_clipped(g, limit) if g.size else p
            for p, g in zip(expected, wide, strict=True)
        ]
    for p, w in zip(params, expected, strict=True):
        np.testing.assert_allclose(p, w, rtol=0, atol=10 * 4 * np.finfo(p.dtype).eps * 5)


AXES = {
    ("torch", 0): None,
    ("torch", 1): None,
    ("torch", 2): (0,),
    ("torch", 3): (1, 2),
    ("torch", 4): (1, 2, 3),
    ("optax", 0): None,
    ("optax", 1): None,
    ("optax", 2): (0,),
    ("optax", 3): (0,),
    ("optax", 4): (0, 1, 2),
    ("optax", 5): (0, 1, 2, 3),
}


@pytest.mark.parametrize(("convention", "ndim"), [*AXES], ids=str)
@pytest.mark.parametrize("waiting", [False, True])
def test_units_are_clipped_by_their_weights(
    isa: str, convention: Any, ndim: int, waiting: bool
) -> None:
    rng = np.random.default_rng(ndim)
    shape = (5, 4, 3, 2, 2)[:ndim]
    p, *grads = rng.standard_normal((12, *shape))
    p = np.asarray(p)
    expected = p.copy()
    opt = nf.optim.SGD(
        [p], lr=0.1, clip_adaptive=0.3, clip_adaptive_eps=1e-2, convention=convention
    )
    for g in map(np.asarray, grads):
        if waiting:
            opt.accumulate([g])
            opt.step([3 * g], grad_scale=0.125)
        else:
            opt.step([g], grad_scale=0.5)
        clipped = unit_clipped(0.5 * g, expected, AXES[convention, ndim], 0.3, 1e-2)
        expected = expected - 0.1 * clipped
        np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-14)


def test_units_of_ones_and_of_the_smallest_weights() -> None:
    w = np.array([[0.0, 1.0], [0.0, 1.0]])
    opt = nf.optim.SGD([w], lr=1.0, clip_adaptive=0.5)
    stats = opt.step([np.array([[3.0, 0.0], [4.0, 0.1]])], stats=True)
    np.testing.assert_allclose(w, [[-0.5e-3 * 0.6, 1], [-0.5e-3 * 0.8, 0.9]], rtol=1e-12)
    np.testing.assert_allclose(stats.grad_norm, [np.sqrt(25.01)])
    half = np.ones((2, 2), np.float16)
    opt = nf.optim.SGD([half], lr=1.0, clip_adaptive=0.5)
    opt.step([np.full((2, 2), 65504, np.float16)], grad_scale=4)
    np.testing.assert_array_equal(half, 0.5)


def test_units_that_are_not_finite() -> None:
    w = np.ones((2, 3))
    grads = np.array([[np.inf, np.nan, 1e200], [1.0, 1.0, 1e200]])
    opt = nf.optim.SGD([w], lr=1.0, clip_adaptive=0.1)
    stats = opt.step([grads], stats=True)
    np.testing.assert_array_equal(w[:, :2], [[np.nan, np.nan], [1, np.nan]])
    np.testing.assert_allclose(w[:, 2], 0.9)
    assert (stats.nans[0], stats.infinities[0]) == (1, 1)
    skipping = nf.optim.SGD([np.ones((2, 3))], clip_adaptive=0.1, skip_nonfinite=True)
    assert skipping.step([grads], stats=True).skipped
    assert skipping.params[0].min() == 1


def test_clipping_of_units_checks_first() -> None:
    opt = nf.optim.Adam([np.ones(3), np.ones(2)], clip_adaptive=0.1)
    opt.accumulate([np.ones(3), None])
    before = everything(opt)
    for grads, error in (
        ([np.ones(3), np.ones(3)], ValueError),
        ([np.ones(3, "f"), np.ones(2)], TypeError),
        ([np.ones(3)], ValueError),
    ):
        with pytest.raises(error, match="grads"):
            opt.step(grads)
        assert_same_arrays(everything(opt), before)
    opt.params[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[1\] must be writeable"):
        opt.step([np.ones(3), np.ones(2)])
    opt.params[1].flags.writeable = True
    assert_same_arrays(everything(opt), before)


def test_clipping_options_are_kept() -> None:
    for option in ("clip_norm", "clip_global_norm", "clip_block_rms", "clip_adaptive"):
        opt = nf.optim.SGD([np.ones((2, 2))], lr=1.0, convention="optax", **{option: 0.25})
        assert f"{option}=0.25" in repr(opt)
        other = nf.optim.SGD([np.ones((2, 2))])
        other.load_state_dict(opt.state_dict())
        third = opt.clone([np.ones((2, 2))])
        for each in (opt, other, third):
            each.step([np.full((2, 2), 3.0)])
            assert_same_bits(each.params[0], opt.params[0])
        with pytest.raises(ValueError, match=f"clip_value and {option} exclude each other"):
            nf.optim.SGD([], clip_value=1.0, **{option: 1.0})
    with pytest.raises(ValueError, match="clip_adaptive_eps must not be negative"):
        nf.optim.SGD([], clip_adaptive=1.0, clip_adaptive_eps=-1.0)


# ---- averages as Keras has them ----


@every_dtype
@pytest.mark.parametrize("every", [None, 1, 3])
def test_averages_are_keras(isa: str, dtype: type, every: int | None) -> None:
    """Its average is the first step's parameters at first, and from time to time the parameters become it."""
    params, momentum = start(dtype), 0.75
    opt = nf.optim.SGD(
        params, lr=0.125, ema_decay=momentum, convention="keras", ema_overwrite_frequency=every
    )
    wide = [p.astype(np.float64) for p in params]
    average: list[Array] = []
    for t in range(1, 51):
        opt.step(draw(dtype, t))
        wide = [p - 0.125 * g.astype(np.float64) for p, g in zip(wide, draw(dtype, t), strict=True)]
        average = (
            [momentum * a + (1 - momentum) * p for a, p in zip(average, wide, strict=True)]
            if average
            else copies(wide)
        )
        if every is not None and t % every == 0:
            wide = copies(average)
        bound = t * 8 * np.finfo(kept(params)[0].dtype).eps
        for mine, theirs in zip(opt.averaged_params(), average, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound)
        for mine, theirs, p in zip(kept_params(opt), wide, params, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound)
            assert_same_bits(p, mine.astype(dtype))
    if every is None:
        first = nf.optim.SGD([np.full(3, 2.0)], lr=1.0, ema_decay=0.5, convention="keras")
        first.step([np.ones(3)])
        assert_same_bits(first.averaged_params()[0], np.ones(3))


def test_averages_of_gradients_that_are_missing_are_keras() -> None:
    w, b = np.full(2, 4.0), np.full(2, 8.0)
    opt = nf.optim.SGD([w, b], lr=1.0, ema_decay=0.5, convention="keras")
    opt.step([np.ones(2), None])
    assert [a.tolist() for a in opt.averaged_params()] == [[3, 3], [8, 8]]
    opt.step([np.ones(2), None])
    assert [a.tolist() for a in opt.averaged_params()] == [[2.5, 2.5], [8, 8]]


def test_overwriting_in_other_conventions_and_its_checks() -> None:
    w = np.full(2, 4.0)
    opt = nf.optim.SGD([w], lr=1.0, ema_decay=0.5, ema_overwrite_frequency=2)
    opt.step([np.ones(2)])
    assert w.tolist() == [3, 3]
    opt.step([np.ones(2)])
    np.testing.assert_allclose(w, (0.25 * 3 + 0.5 * 2) / 0.75)
    assert "ema_overwrite_frequency=2" in repr(opt)
    other = nf.optim.SGD([w.copy()], ema_decay=0.5)
    other.load_state_dict(opt.state_dict())
    assert other.ema_overwrite_frequency == 2
    with pytest.raises(ValueError, match="ema_overwrite_frequency needs ema_decay"):
        nf.optim.SGD([w], ema_overwrite_frequency=2)
    for wrong, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="ema_overwrite_frequency must be"):
            nf.optim.SGD([w], ema_decay=0.5, ema_overwrite_frequency=wrong)


# ---- settings of rules ----


def test_thresholds_and_nesterov_are_checked() -> None:
    with pytest.raises(ValueError, match="threshold must be at least 4, got 3.5"):
        nf.optim.RAdam([], threshold=3.5)
    with pytest.raises(ValueError, match="nesterov needs momentum above 0"):
        nf.optim.RMSprop([], nesterov=True)
    with pytest.raises(ValueError, match="eps_root must not be negative"):
        nf.optim.Adam([], eps_root=-1.0)


def test_a_pickle_of_0_2_keeps_what_was_accumulated() -> None:
    waiting = {"_sums": [np.ones(2), None], "_waiting": [True, False], "rows": [None, None]}
    found = Accumulated.__new__(Accumulated)
    found.__setstate__({**waiting, "_core": None})
    assert found
    assert not found.any_rows
    assert found.sum_of(1) is None
    np.testing.assert_array_equal(found.sum_of(0), [1, 1])
    found.__setstate__({"_sums": [None], "_waiting": [False], "rows": [None], "_core": None})
    assert not found
