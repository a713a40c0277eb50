"""Steps of optimizers: bits, groups, settings that change, clipping, skipping, stats, averages, subnormals."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import ISAS, SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from optim_rules import (
    DTYPES,
    KERNELS,
    Array,
    Rule,
    assert_same_arrays,
    copies,
    draw,
    every_dtype,
    every_kernel,
    every_kind,
    everything,
    kept_params,
    start,
    train,
)
from pairs import in_pairs

# What the kernels that know sums, clipping and averages are asked for.
FULL = {"clip_value": 0.7, "ema_decay": 0.9}


def trained(rule: Rule, dtype: type, steps: int = 5, **options: Any) -> dict[str, Array]:
    optimizer = rule.optimizer(start(dtype), **options)
    train(optimizer, range(steps), dtype)
    return everything(optimizer)


# ---- the same bits, however it is called ----

WAYS = [(isa, threads) for isa in SAME_BITS_ISAS for threads in (1, 2, 7)] + [(None, 16)]


@in_pairs(rule=KERNELS, dtype=DTYPES, options=[{}, FULL])
def test_bits_do_not_depend_on_threads_or_fma_instruction_set(
    rule: Rule, dtype: type, options: Any
) -> None:
    expected = trained(rule, dtype, 3, **options)
    for isa, threads in WAYS:
        with forced(isa=isa, threads=threads, grain=1):
            assert_same_arrays(trained(rule, dtype, 3, **options), expected)


@every_kernel
@pytest.mark.parametrize("options", [{}, FULL], ids=["plain", "full"])
def test_bits_do_not_depend_on_the_list(rule: Rule, options: Any) -> None:
    with forced(threads=7, grain=1):
        run_in_lists(rule, options)


def run_in_lists(rule: Rule, options: Any) -> None:
    together, alone, grouped = (start(np.float32) for _ in range(3))
    optimizers = [rule.optimizer([p], **options) for p in alone]
    optimizer = rule.optimizer(together, **options)
    backwards = rule.optimizer(
        [{"params": grouped[:2][::-1]}, {"params": []}, {"params": grouped[2:][::-1]}], **options
    )
    for step in range(3):
        grads = draw(np.float32, step)
        optimizer.step(grads)
        backwards.step(grads[:2][::-1] + grads[2:][::-1])
        for one, g in zip(optimizers, grads, strict=True):
            one.step([g])
    for found in (alone, grouped):
        for p, expected in zip(found, together, strict=True):
            assert_same_bits(p, expected)


@in_pairs(rule=KERNELS, dtype=DTYPES, options=[{}, FULL])
def test_bits_do_not_depend_on_the_layout(rule: Rule, dtype: type, options: Any) -> None:
    rng = np.random.default_rng(0)
    first, *grads = rng.standard_normal((3, 5, 37)).astype(dtype)

    def run(p: str, g: str, s: str) -> dict[str, Array]:
        optimizer = rule.optimizer([layouts(first)[p]], **options)
        for arrays in (*optimizer.state.values(), optimizer.ema or []):
            arrays[:] = [layouts(array)[s] for array in arrays]
        for grad in grads:
            optimizer.step([layouts(grad)[g]])
        return everything(optimizer)

    expected = run("contiguous", "contiguous", "contiguous")
    for name in layouts(first):
        for ways in ((name,) * 3, (name, "contiguous", "fortran"), ("fortran", name, "spaced")):
            assert_same_arrays(run(*ways), expected)


@in_pairs(
    rule=KERNELS,
    dtype=DTYPES,
    isa=ISAS,
    options=[
        {"clip_value": 1e30},
        {"clip_norm": 1e30},
        {"clip_global_norm": 1e30},
        {"skip_nonfinite": True},
        {"ema_decay": 0.9, "skip_nonfinite": True},
    ],
)
def test_options_do_not_change_the_bits_of_a_step(
    isa: str, rule: Rule, dtype: type, options: Any
) -> None:
    expected = trained(rule, dtype)
    found = trained(rule, dtype, **options)
    assert_same_arrays({name: found[name] for name in expected}, expected)
    watched = rule.optimizer(start(dtype), **options)
    train(watched, range(5), dtype, stats=True)
    assert_same_arrays(everything(watched), found)


@in_pairs(rule=KERNELS, isa=ISAS, options=[{}, FULL])
def test_float16_parameters_are_updated_as_float32(isa: str, rule: Rule, options: Any) -> None:
    halves = start(np.float16)
    optimizer = rule.optimizer(halves, **options)
    wide = rule.optimizer([p.astype(np.float32) for p in halves], **options)
    for step in range(5):
        optimizer.step(draw(np.float16, step))
        wide.step([g.astype(np.float32) for g in draw(np.float16, step)])
    for p, kept, expected in zip(halves, kept_params(optimizer), wide.params, strict=True):
        assert_same_bits(kept, expected)
        assert_same_bits(p, expected.astype(np.float16))
    state = {name: a for name, a in optimizer.state_dict().items() if "master" not in name}
    assert_same_arrays(state, wide.state_dict())


@every_kernel
def test_dtypes_in_one_list_and_mappings(rule: Rule) -> None:
    shapes = {"narrow": (np.float32, 40), "half": (np.float16, 70), "wide": (np.float64, (2, 3))}

    def ones(which: list[str]) -> dict[str, Array]:
        return {name: np.ones(shapes[name][1], shapes[name][0]) for name in which}

    params = ones([*shapes])
    optimizer = rule.optimizer(params)
    for _ in range(2):
        optimizer.step(ones(["wide", "narrow", "half"]))  # another order
    for name, p in params.items():
        alone = ones([name])
        optimizer = rule.optimizer(alone)
        for _ in range(2):
            optimizer.step(ones([name]))
        assert_same_bits(p, alone[name])


# ---- groups, and settings that change ----

# For each rule what two groups have, and what the optimizer has for the rest.
GROUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "SGD": ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "dampening": 0.2, "lr": 0.3}),
    "Adagrad": ({"initial_accumulator_value": 2.0, "lr_decay": 0.1}, {"eps": 0.1, "lr": 0.3}),
    "Adadelta": ({"rho": 0.5, "lr": 0.3}, {"eps": 0.1}),
    "RMSprop": ({"alpha": 0.5, "momentum": 0.9}, {"eps": 0.1, "lr": 0.3, "momentum": 0.0}),
    "Adam": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "decoupled_weight_decay": True}),
    "AdamW": ({"betas": [0.5, 0.6], "lr": 0.3}, {"eps": 0.1, "weight_decay": 0.3}),
    "Adamax": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1}),
    "NAdam": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "momentum_decay": 0.5}),
    "RAdam": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1}),
    "Lion": ({"betas": (0.5, 0.6), "lr": 0.3}, {"decoupled_weight_decay": False}),
    "AdaBelief": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "eps_root": 0.1}),
    "Yogi": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "initial_accumulator_value": 0.5}),
    "Adan": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "beta3": 0.5}),
    "Rprop": ({"etas": (0.25, 1.5), "lr": 0.3}, {"step_sizes": [0.01, 0.1]}),
    "ASGD": ({"lambd": 0.1, "lr": 0.3}, {"alpha": 0.5, "t0": 2.0}),
    "Ftrl": ({"l1": 0.1, "lr": 0.3}, {"l2": 0.1, "beta": 0.5, "l2_shrinkage": 0.1}),
    "LAMB": ({"betas": (0.5, 0.6), "lr": 0.3}, {"eps": 0.1, "decoupled_weight_decay": False}),
    "LARS": ({"momentum": 0.5, "lr": 0.3}, {"trust_coefficient": 0.1, "nesterov": True}),
}


@every_kind
@pytest.mark.parametrize("options", [{}, FULL], ids=["plain", "full"])
def test_a_group_is_as_an_optimizer_of_its_own(kind: str, options: Any) -> None:
    make = getattr(nf.optim, kind)
    shared = {"lr": 0.1, "weight_decay": 0.2, **options}
    owns = [*GROUPS[kind], {"weight_decay": 0, "lr": 0.2}]  # the last as of biases
    parts, slices = start(np.float32), (slice(2), slice(2, 4), slice(4, 5))
    alone = [make(parts[s], **{**shared, **own}) for s, own in zip(slices, owns, strict=True)]
    mine = start(np.float32)
    groups = [{"params": mine[s], **own} for s, own in zip(slices, owns, strict=True)]
    optimizer = make(groups, **shared)
    for step in range(6):
        optimizer.step(draw(np.float32, step))
        for one, s in zip(alone, slices, strict=True):
            one.step(draw(np.float32, step)[s])
    for p, expected in zip(mine, parts, strict=True):
        assert_same_bits(p, expected)


def test_groups_of_mappings_go_by_name() -> None:
    w, b = np.zeros(3), np.zeros(2)
    groups = [{"params": {"w": w}, "lr": 1.0}, {"params": {"b": b}, "lr": 0.5}]
    optimizer = nf.optim.SGD(groups, ema_decay=0.0)
    optimizer.step({"b": np.ones(2), "w": np.ones(3)})
    optimizer.groups[0]["lr"] = 2.0
    optimizer.step({"b": np.ones(2), "w": np.ones(3)})
    np.testing.assert_array_equal(w, -3)
    np.testing.assert_array_equal(b, -1)
    averages = optimizer.averaged_params()
    assert list(averages) == ["w", "b"]
    assert_same_bits(averages["b"], b)
    assert groups[0].keys() == {"params", "lr"}  # the caller's own are left alone
    assert groups[0]["lr"] == 1.0


@every_kind
@pytest.mark.parametrize("grouped", [False, True])
def test_settings_may_change_between_steps(kind: str, grouped: bool) -> None:
    later = {**GROUPS[kind][0], "lr": 0.05, "weight_decay": 0.1}
    before = {"lr": 0.1, **({"momentum": 0.3} if "momentum" in later else {})}

    def make(settings: Any) -> Any:
        params = start(np.float64)
        return getattr(nf.optim, kind)([{"params": params}] if grouped else params, **settings)

    optimizer, fresh = make(before), make({**before, **later})
    train(optimizer, range(3), np.float64)
    for mine, theirs in zip(fresh.params, optimizer.params, strict=True):
        mine[...] = theirs
    fresh.load_state_dict(optimizer.state_dict(), keep_settings=True)
    (optimizer.groups[0] if grouped else vars(optimizer)).update(later)
    for changed in (optimizer, fresh):
        train(changed, range(3, 6), np.float64)
    assert_same_arrays(everything(optimizer), everything(fresh))


def test_learning_rate_may_change() -> None:
    w = np.zeros(3)
    optimizer = nf.optim.SGD([w], lr=1.0)
    optimizer.step([np.ones(3)])
    optimizer.lr = 0.25
    optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, -1.25)


@pytest.mark.parametrize("way", ["argument", "group", "attribute", "group later", "again"])
def test_numbers_of_numpy_count_as_double(way: str) -> None:
    """1 - beta**t in float32 is wrong from the seventh digit on."""
    narrow = (np.float32(0.8), np.float32(0.99))
    wide = (float(narrow[0]), float(narrow[1]))
    w, reference = np.ones(3), np.ones(3)
    if way == "argument":
        optimizer = nf.optim.NAdam([w], betas=narrow)
    else:
        first = {"group": {"betas": narrow}, "again": {"betas": wide}}.get(way, {})
        optimizer = nf.optim.NAdam([{"params": [w], **first}])
    if way == "attribute":
        optimizer.betas = narrow
    elif way in ("group later", "again"):
        optimizer.groups[0]["betas"] = narrow
    expected = nf.optim.NAdam([reference], betas=wide)
    for t in range(5):
        for each in (optimizer, expected):
            each.step([np.arange(3.0) + t])
    assert_same_bits(w, reference)
    assert expected.state_dict()["mu_product"][0] == optimizer.state_dict()["mu_product"][0]


# ---- clipping ----


def norm(arrays: list[Array]) -> float:
    return math.sqrt(math.fsum(x * x for a in arrays for x in a.astype(np.float64).flat))


def factor(limit: float, size: float) -> float:
    return min(1.0, limit / (size + 1e-6))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.5, 9.0, 1e9])
@pytest.mark.parametrize("option", ["clip_value", "clip_norm", "clip_global_norm"])
def test_clipping_is_of_the_gradient_alone(
    isa: str, option: str, limit: float, dtype: type
) -> None:
    params, expected = start(dtype), start(dtype)
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9, "maximize": True}
    optimizer = nf.optim.SGD(params, **settings, **{option: limit})
    plain = nf.optim.SGD(expected, **settings)
    for step in range(3):
        grads = draw(dtype, step)
        optimizer.step(grads)
        if option == "clip_value":
            plain.step([np.asarray(g.clip(-limit, limit)) for g in grads])
        else:
            sizes = [norm(grads if "global" in option else [g]) for g in grads]
            scaled = zip(grads, sizes, strict=True)
            plain.step([np.asarray(g * dtype(factor(limit, s))) for g, s in scaled])
    # The norm's own rounding may move a factor by one, and that each of three steps.
    bound = 3 * 4 * np.finfo(dtype).eps * (option != "clip_value")
    for p, w in zip(params, expected, strict=True):
        np.testing.assert_allclose(p, w, rtol=0, atol=bound)


def test_clipping_of_values_that_are_not_finite() -> None:
    """As PyTorch: an infinity is cut by value, makes all zero but itself by norm; NaN is no number after either."""
    for option, expected in (
        ("clip_value", [[-1, np.nan, 1], [-1, -1]]),
        ("clip_norm", [[np.nan, np.nan, np.nan], [-(0.5**0.5)] * 2]),
        ("clip_global_norm", [[np.nan] * 3, [np.nan] * 2]),
    ):
        params = [np.zeros(3), np.zeros(2)]
        optimizer = nf.optim.SGD(params, lr=1.0, **{option: 1.0})
        optimizer.step([np.array([np.inf, np.nan, -np.inf]), np.ones(2)])
        for p, w in zip(params, expected, strict=True):
            np.testing.assert_allclose(p, w, rtol=1e-6)
    w = np.zeros(3)
    nf.optim.SGD([w], lr=1.0, clip_norm=1.0).step([np.array([np.inf, 2.0, 3.0])])
    np.testing.assert_array_equal(w, [np.nan, 0, 0])


@every_dtype
@pytest.mark.parametrize("option", ["clip_norm", "clip_global_norm"])
def test_bits_of_clipped_steps_do_not_depend_on_the_layout(dtype: type, option: str) -> None:
    for seed in range(20):
        p, g = np.random.default_rng(seed).standard_normal((2, 29, 37)).astype(dtype)
        found = []
        for name in layouts(p):
            optimizer = nf.optim.SGD([layouts(p)[name]], lr=0.1, **{option: 1.0})
            optimizer.step([g])
            found.append(optimizer.params[0])
        for other in found[1:]:
            assert_same_bits(other, found[0])


# ---- steps that are skipped ----


@in_pairs(
    rule=KERNELS,
    bad=[np.nan, np.inf, -np.inf],
    options=[{}, {"ema_decay": 0.9, "clip_global_norm": 1.0}],
)
def test_a_skipped_step_changes_nothing(rule: Rule, bad: float, options: Any) -> None:
    expected = trained(rule, np.float16, 4, **options)
    optimizer = rule.optimizer(start(np.float16), skip_nonfinite=True, **options)
    train(optimizer, range(2), np.float16)
    before = everything(optimizer)
    grads = copies(draw(np.float16, 2))
    grads[-1].flat[-1] = bad
    optimizer.step(grads)
    stats = optimizer.step(grads, stats=True)
    assert_same_arrays(everything(optimizer), {**before, "skipped_count": np.array(2)})
    assert (optimizer.step_count, optimizer.skipped_count) == (2, 2)
    assert stats.skipped
    assert (stats.nans.sum(), stats.infinities.sum()) == (np.isnan(bad), np.isinf(bad))
    assert not stats.update_norm.any()
    assert np.isnan(stats.param_norm).all()
    train(optimizer, range(2, 4), np.float16)
    assert_same_arrays(everything(optimizer), {**expected, "skipped_count": np.array(2)})


def test_without_skipping_a_nan_stays_where_it_is() -> None:
    w = np.ones(100)
    g = np.where(np.arange(100) == 70, np.nan, 1.0)
    optimizer = nf.optim.Adam([w])
    assert not optimizer.step([g], stats=True).skipped
    np.testing.assert_array_equal(np.isnan(w), np.isnan(g))
    assert (optimizer.step_count, optimizer.skipped_count) == (1, 0)


# ---- numbers to watch ----

# 4096 elements are summed on their own: less, more, no multiple. Squares of the large ones overflow in float32.
SCALES = {(5000,): 1.0, (3, 4099): 30.0, (): 2.0, (0, 3): 1.0, (64,): 1e4, (131, 70): 1.0}


def watched(dtype: type, seed: int, *, large: float = 1.0) -> list[Array]:
    rng = np.random.default_rng(seed)
    drawn = [np.asarray(s * rng.standard_normal(shape), dtype) for shape, s in SCALES.items()]
    drawn[-1] = np.asfortranarray(drawn[-1])
    drawn[-2] *= dtype(large)
    return drawn


@every_dtype
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "maximize": True}, FULL], ids=str)
def test_stats_are_numpys(isa: str, dtype: type, options: Any) -> None:
    large = 1.0 if dtype is np.float16 else 1e20
    optimizer = nf.optim.AdamW(watched(dtype, 0), lr=0.1, **options)
    before = copies(kept_params(optimizer))
    for step in range(1, 4):
        grads = watched(dtype, step, large=large)
        stats = optimizer.step(grads, stats=True)
        after = copies(kept_params(optimizer))
        changes = [a - b for a, b in zip(after, before, strict=True)]
        for found, of in (
            (stats.grad_norm, grads),
            (stats.update_norm, changes),
            (stats.param_norm, after),
        ):
            assert (found.dtype, found.shape) == (np.float64, (len(SCALES),))
            np.testing.assert_allclose(found, [norm([a]) for a in of], rtol=1e-12)
        np.testing.assert_allclose(stats.global_grad_norm, norm(grads), rtol=1e-12)
        present = np.array([a.size > 0 for a in after])
        np.testing.assert_array_equal(np.isnan(stats.ratio), ~present)  # 0 / 0
        ratio = (stats.update_norm[present] / stats.param_norm[present]).tolist()
        assert stats.ratio[present].tolist() == ratio
        assert not stats.nans.any()
        assert not stats.infinities.any()
        assert not stats.skipped
        before = after


@every_dtype
def test_bits_of_stats_do_not_depend_on_threads_or_fma_instruction_set(dtype: type) -> None:
    found = []
    for isa, threads in WAYS:
        with forced(isa=isa, threads=threads, grain=1):
            optimizer = nf.optim.AdamW(watched(dtype, 0))
            found.append(optimizer.step(watched(dtype, 1), stats=True))
    for stats in found[1:]:
        for field in fields(stats):
            assert_same_bits(getattr(stats, field.name), getattr(found[0], field.name))


@every_dtype
def test_values_that_are_not_finite_are_counted(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    grads = watched(dtype, 1)
    nans, infinities = [], []
    for g in grads:
        kind = rng.choice(4, g.shape, p=[0.7, 0.1, 0.1, 0.1])
        for k, bad in ((1, np.nan), (2, np.inf), (3, -np.inf)):
            g[kind == k] = bad
        nans.append((kind == 1).sum())
        infinities.append((kind >= 2).sum())
    stats = nf.optim.SGD(watched(dtype, 0)).step(grads, stats=True)
    np.testing.assert_array_equal(stats.nans, nans)
    np.testing.assert_array_equal(stats.infinities, infinities)


def test_stats_are_returned_on_request_only() -> None:
    assert nf.optim.SGD([np.ones(3)]).step([np.ones(3)]) is None
    assert nf.optim.SGD([np.ones(3)], skip_nonfinite=True).step([np.full(3, np.nan)]) is None
    stats = nf.optim.SGD([]).step([], stats=True)
    assert stats.grad_norm.shape == stats.nans.shape == stats.ratio.shape == (0,)
    assert stats.global_grad_norm == 0


# ---- averages ----


@every_dtype
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_averages_are_the_formula(isa: str, dtype: type, corrected: bool, decay: float) -> None:
    params = start(dtype)
    optimizer = nf.optim.SGD(params, lr=0.01, ema_decay=decay, ema_bias_correction=corrected)
    weighted = [0 if corrected else p.astype(np.float64) for p in params]
    weight = 0.0 if corrected else 1.0
    for step in range(30):
        optimizer.step(draw(dtype, step))
        weight = decay * weight + 1 - decay
        kept = kept_params(optimizer)
        weighted = [decay * w + (1 - decay) * p for w, p in zip(weighted, kept, strict=True)]
        averages = optimizer.averaged_params()
        for average, w, k in zip(averages, weighted, kept, strict=True):
            assert type(average) is np.ndarray
            assert (average.dtype, average.shape) == (k.dtype, k.shape)
            # Of parameters up to 4. Decay and gain are rounded, every step once, and decay**t in double, which
            # counts for more while 1 - decay**t is small.
            relative = (step + 4) * np.finfo(k.dtype).eps
            bound = 4 * (relative + (step + 4) * np.finfo(np.float64).eps / weight)
            np.testing.assert_allclose(average, w / weight, rtol=0, atol=bound)


def test_averages_are_copies_in_the_form_of_params() -> None:
    w, b = np.full(3, 2.0), np.array(4.0)
    named = nf.optim.SGD({"w": w, "b": b}, lr=0.0, ema_decay=0.5)
    for optimizer in (named, nf.optim.SGD([w], ema_decay=0.5)):
        with pytest.raises(ValueError, match="there is no average before the first step"):
            optimizer.averaged_params()
    named.step({"w": np.ones(3), "b": np.array(1.0)})
    averages = named.averaged_params()
    np.testing.assert_array_equal(averages["w"], 2)
    assert averages["b"].shape == ()
    for array in averages.values():
        array[...] = 0
    np.testing.assert_array_equal(named.averaged_params()["w"], 2)
    with pytest.raises(ValueError, match="ema_decay must be given to an optimizer"):
        nf.optim.SGD([w]).averaged_params()


# ---- subnormals ----


@in_pairs(rule=KERNELS, dtype=[np.float32, np.float64], isa=ISAS)
def test_dead_gradients_leave_no_subnormals(isa: str, rule: Rule, dtype: type) -> None:
    tiny = np.finfo(dtype).smallest_normal
    w, zeros = np.zeros(50, dtype), np.zeros(50, dtype)
    optimizer = rule.optimizer([w], ema_decay=0.9)
    kept = [w, *(arrays[0] for arrays in (*optimizer.state.values(), optimizer.ema))]
    for array in kept:
        array[...] = 3 * tiny  # near the end of its decay, which the slowest reaches in 2000 steps
    optimizer.step_count = 5
    for _ in range(2000):
        optimizer.step([zeros])
    for array in kept:
        assert ((array == 0) | (np.abs(array) >= tiny)).all()


@pytest.mark.parametrize("stats", [False, True])
def test_subnormals_of_float16_are_numbers_of_float32(engine: str, stats: bool) -> None:
    grads = np.arange(1, 0x400, dtype=np.uint16).view(np.float16)
    w = np.zeros_like(grads)
    found = nf.optim.SGD([w], lr=1.0).step([grads], stats=stats)
    assert_same_bits(-w, grads)
    if stats:
        np.testing.assert_allclose(found.grad_norm, norm([grads]), rtol=1e-12)


# ---- what is left out of the loop of a step that neither clips nor decays ----


# What a rule of these writes to its state has the parameter in it, or its norm.
OF_PARAMETERS = {"ASGD", "Ftrl", "LARS"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", [*filter(lambda n: n not in OF_PARAMETERS, nf.optim.rules.__all__)]
)
def test_without_decay_a_parameter_is_no_part_of_its_gradient(
    isa: str, name: str, dtype: type
) -> None:
    """At every length and stride: 0 times an infinite parameter would be NaN, and 0 - 0.0 no -0.0."""
    params = np.resize(np.array([np.inf, -np.inf, 1.0, -1.0], dtype), 150)
    grads = np.resize(np.array([1.0, -0.0, -0.0], dtype), 150)
    for values, slopes in ((params.copy(), grads), (np.repeat(params, 2)[::2], grads)):
        optimizer = getattr(nf.optim, name)([values], weight_decay=0.0)
        optimizer.step([slopes])
        for (state,) in optimizer.state.values():
            assert np.isfinite(state).all()
            for i in range(12):  # as many as there are pairs of a parameter and a gradient
                assert_same_bits(state[i::12], np.full_like(state[i::12], state[i % 3]))


def subnormals_count() -> bool:
    """In this thread, and in our own."""
    below = np.full(3000, np.finfo(np.float32).smallest_normal) / 2
    return bool((below * np.float32(0.5) != 0).all() and (nf.leaky_relu(-below, 0.5) != 0).all())


@every_kernel
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "ema_decay": 0.9}], ids=str)
def test_floating_point_mode_is_left_as_found(rule: Rule, options: Any) -> None:
    ones = [np.ones(3000, dtype) for dtype in (np.float16, np.float32, np.float64)]
    with forced(threads=2, grain=1):
        optimizer = rule.optimizer(copies(ones), skip_nonfinite=True, **options)
        optimizer.step(ones)
        optimizer.step(ones, stats=True)
        optimizer.step([np.full_like(g, np.nan) for g in ones])
        with pytest.raises(ValueError, match="grads must have one array for each"):
            optimizer.step([])
        assert subnormals_count()


# ---- the numbers of a step ----


def sgd_row(opt, t, lr):
    if opt.momentum == 0:
        return (lr,)
    gain = 1 - opt.dampening if t > 1 else 1.0
    if opt.convention in ("keras", "cs231n"):
        return 1.0, opt.momentum, lr * gain, lr, float(opt.nesterov)
    return lr, opt.momentum, gain, 1.0, float(opt.nesterov)


def adam_row(opt, t, lr):
    beta1, beta2 = opt.betas
    left1, left2 = (1 - beta1**t, 1 - beta2**t) if opt.bias_correction else (1.0, 1.0)
    correction, root, largest = left2**-0.5, opt.eps_root * left2, 1.0
    if opt.convention == "keras":
        lr, correction, root = lr * math.sqrt(left2), 1.0, opt.eps_root
    elif opt.amsgrad and opt.convention == "optax":
        correction, root, largest = 1.0, opt.eps_root, 1 / left2
    row = lr / left1, opt.eps, root, correction, beta1, 1 - beta1, beta2, 1 - beta2
    return (*row, largest) if opt.amsgrad else row


@pytest.mark.parametrize("convention", ["torch", "keras", "optax", "cs231n"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(
    ("rule", "settings", "expected"),
    [
        (nf.optim.SGD, {"momentum": 0.0}, sgd_row),
        (nf.optim.SGD, {"momentum": 0.9, "dampening": 0.3}, sgd_row),
        (nf.optim.SGD, {"momentum": 0.8, "nesterov": True}, sgd_row),
        (nf.optim.Adam, {"eps_root": 1e-3}, adam_row),
        (nf.optim.Adam, {"betas": (0.0, 0.99), "amsgrad": True, "eps_root": 1e-4}, adam_row),
        (nf.optim.Adam, {"bias_correction": False}, adam_row),
    ],
)
def test_rows_are_those_of_python_bit_for_bit(rule, settings, expected, convention, decoupled):
    options = {"convention": convention, "weight_decay": 0.01, "maximize": True, "clip_value": 0.7}
    opt = rule([np.ones(2)], lr=0.3, decoupled_weight_decay=decoupled, **options, **settings)
    for t in (1, 2, 7, 1000):
        lr = 0.3 / t
        shrink, decay = (1 - lr * 0.01, 0.0) if decoupled else (1.0, 0.01)
        shared = -1.0, 0.7, decay, shrink, 0.0
        assert opt._row(t, lr, opt._checked[0], 1.0) == shared + expected(opt, t, lr)
