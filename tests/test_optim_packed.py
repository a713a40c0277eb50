"""State of optimizers in 16 and 8 bits: codes, the bits that round them, resuming, and what is learned with them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from tests.reference import packing

Array = np.ndarray[Any, Any]

RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("Lion", {}),
]
HELD = {
    **dict.fromkeys(("exp_avg_sq", "max_exp_avg_sq", "square_avg"), "squares"),
    "momentum_buffer": "momentum",
    "exp_avg": "average",
}
every_rule = pytest.mark.parametrize(
    ("kind", "settings"), RULES, ids=[f"{kind} {settings}" for kind, settings in RULES]
)
every_packing = pytest.mark.parametrize("dtype", ["bfloat16", "uint8"])
everything_held = pytest.mark.parametrize("held", packing.FORMATS)

# One below the size of blocks, one that is no multiple of anything, one of several blocks for threads.
SHAPES = [(3,), (70, 59), (4, 2600)]


def draw(step: int, shapes: Any = SHAPES, dtype: Any = np.float32) -> list[Array]:
    rng = np.random.default_rng(step)
    # Of all magnitudes, as gradients of the layers of a network are.
    return [
        (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 1, shape)).astype(dtype)
        for shape in shapes
    ]


def make(kind: str, settings: dict[str, Any], params: Any, dtype: str, **options: Any) -> Any:
    return getattr(nf.optim, kind)(params, lr=1e-2, state_dtype=dtype, **settings, **options)


def everything(optimizer: Any) -> list[Array]:
    return [*optimizer.params, *(a for arrays in optimizer.state.values() for a in arrays)]


def assert_same(first: Any, second: Any) -> None:
    for a, b in zip(everything(first), everything(second), strict=True):
        assert_same_bits(a, b)


def trained(kind: str, settings: Any, dtype: str, steps: Any = range(4), **options: Any) -> Any:
    optimizer = make(kind, settings, draw(99), dtype, **options)
    for step in steps:
        optimizer.step(draw(step))
    return optimizer


# ---- the codes and the bits that round them ----


@every_rule
@every_packing
def test_a_step_is_that_of_float32_between_codes(
    isa: str, kind: str, settings: dict[str, Any], dtype: str
) -> None:
    packed = make(kind, settings, draw(99), dtype, rounding_seed=7)
    plain = make(kind, settings, draw(99), "float32")
    for t in range(1, 5):
        for name, arrays in packed.unpacked_state().items():
            for i, array in enumerate(arrays):
                stored = packed.state[name][i]
                if stored.dtype != np.float32:
                    same = packing.unpack(stored, array.shape, HELD[name])
                    assert_same_bits(array, same)
                plain.state[name][i][...] = array
        packed.step(draw(t))
        plain.step(draw(t))
        for k, (name, arrays) in enumerate(plain.state.items()):
            for i, array in enumerate(arrays):
                found = packed.state[name][i]
                if found.dtype == np.float32:
                    assert_same_bits(found, array)
                    continue
                bits = packing.random(array.size, 7, t, i, k)
                assert_same_bits(found, packing.pack(array, dtype, HELD[name], bits))
        for a, b in zip(packed.params, plain.params, strict=True):
            assert_same_bits(a, b)


def stored(x: Array, dtype: str, held: str, seed: int = 0) -> tuple[Array, Array]:
    """x, or its square, as the state of an optimizer has it after one step, and as numbers."""
    rules: dict[str, Any] = {
        "squares": (nf.optim.RMSprop, {"alpha": 0.0}),
        "momentum": (nf.optim.SGD, {"momentum": 0.5}),
        "average": (nf.optim.Lion, {"betas": (0.9, 0.0)}),
    }
    rule, settings = rules[held]
    opt = rule([np.zeros_like(x)], lr=0.0, state_dtype=dtype, rounding_seed=seed, **settings)
    opt.step([x])
    ((name, (codes,)),) = opt.state.items()
    return codes, opt.unpacked_state()[name][0]


def as_state(x: Array, held: str) -> Array:
    """What the rule hands over to be stored: 0 v + g, or 0 v + g * g, in which subnormals count as zero."""
    least = np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        x = np.where(np.abs(x) < least, np.float32(0) * x, x)
        x = x * x if held == "squares" else x + np.float32(0)
        return np.where(np.abs(x) < least, np.float32(0) * x, x).astype(np.float32)


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)
tables = arrays_of.arrays(np.float32, st.integers(1, 300), elements=numbers)


@given(x=tables, seed=st.integers(0, 2**64 - 1))
@everything_held
@every_packing
def test_codes_are_the_references(dtype: str, held: str, x: Array, seed: int) -> None:
    x = np.resize(x, 4096 + x.size)  # below 4,096 there are no blocks
    codes, found = stored(x, dtype, held, seed)
    state, bits = as_state(x, held), packing.random(x.size, seed, 1, 0, 0)
    expected = packing.pack(state, dtype, held, bits)
    np.testing.assert_array_equal(without_nan(codes, found), without_nan(expected, found))
    assert_same_bits(found, packing.unpack(codes, x.shape, held))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(state))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(state))
    if held == "squares":
        assert (found != 0)[state != 0].all()
    else:
        there = (found != 0) & ~np.isnan(found)
        np.testing.assert_array_equal(np.signbit(found)[there], np.signbit(state)[there])


def without_nan(codes: Array, numbers: Array) -> Array:
    """The codes but those of NaN, whose sign and digits are the processor's."""
    flat = np.isnan(numbers).reshape(-1)
    if codes.dtype == np.uint16:
        return np.where(flat.reshape(codes.shape), 0, codes)
    found = codes.copy()
    padded = np.zeros(found[:, :128].size, bool)
    padded[: flat.size] = flat
    found[:, :128][padded.reshape(-1, 128)] = 0
    return found


@pytest.mark.parametrize("held", ["average", "momentum"])
def test_numbers_of_the_format_are_kept(held: str) -> None:
    # The last, rounded up, would be beyond the block.
    found = packing.numbers(120, held)[:-1]
    x = np.resize([*found, *-found], 8192).astype(np.float32)
    np.testing.assert_array_equal(stored(x, "uint8", held)[1], x)


@pytest.mark.parametrize(
    ("dtype", "held"), [("uint8", "squares"), *(("bfloat16", held) for held in packing.FORMATS)]
)
def test_powers_of_two_are_kept(dtype: str, held: str) -> None:
    x = (2.0 ** np.arange(-3, 5).repeat(1024)).astype(np.float32)
    np.testing.assert_array_equal(stored(x, dtype, held)[1], as_state(x, held))


@everything_held
@every_packing
def test_the_error_is_below_a_step_of_the_format(dtype: str, held: str) -> None:
    x = np.abs(np.concatenate([g.reshape(-1) for g in draw(1, [(100, 128)])])) + np.float32(1e-3)
    codes, found = stored(x, dtype, held)
    true = as_state(x, held).astype(float)
    step = true / 128
    if dtype == "uint8":
        each, _, signed = packing.FORMATS[held]
        step = (true + signed * 2.0 ** (codes[:, 128].astype(float) - 127).repeat(128)) / each
    assert (np.abs(found - true) < step).all()


@everything_held
@every_packing
def test_rounding_has_no_bias(dtype: str, held: str) -> None:
    """The mean over seeds is the number itself, of elements alone and of all."""
    x = np.linspace(0.7, 1.9, 8192, dtype=np.float32)
    true = as_state(x, held).astype(float)
    found = np.array([stored(x, dtype, held, seed)[1] for seed in range(200)], float)
    error = (found - true) / true
    of_seeds = error.mean(axis=1)
    assert abs(of_seeds.mean()) < 4 * of_seeds.std() / 200**0.5
    spread = error.std(axis=0) / 200**0.5
    assert (np.abs(error.mean(axis=0)) < 5 * spread + 1e-6).mean() > 0.98


def test_bits_that_round_are_random() -> None:
    """Of elements, of both states of an element, and of steps: uniform, and without correlation."""
    steps, n = 100, 4096

    def uniform(place: int = 0, state: int = 0, first: int = 1, count: int = 20) -> Array:
        found = [packing.random(n, 3, t, place, state) for t in range(first, first + steps)]
        return (np.array([bits.taken(count) for bits in found]) + 0.5) / 2**count - 0.5

    for count in (16, 18, 20):
        one = uniform(count=count)
        counts = np.bincount(((one.reshape(-1) + 0.5) * 256).astype(int), minlength=256)
        expected = steps * n / 256
        assert ((counts - expected) ** 2).sum() / expected < 350  # chi-squared of 255, p = 1e-4
        others = [uniform(state=1), uniform(place=1, count=count), uniform(first=2, count=count)]
        others += [np.roll(one, k, axis=1) for k in (1, 2, 8, 16, 128)]
        # Chunks share the words of a step, so that it has 1,024 pairs that are independent.
        for other in others:
            assert abs((one * other).mean() * 12) < 5 / (steps * 1024) ** 0.5
        # Those of two chunks, and of the third state and the first, differ by a number for each chunk: of many places.
        places = range(64)
        many = np.concatenate([uniform(p, count=count) for p in places], axis=1)
        third = np.concatenate([uniform(p, 2, count=count) for p in places], axis=1)
        fourth = np.concatenate([uniform(p, 3, count=count) for p in places], axis=1)
        for other in (third, fourth, np.roll(many, 1024, axis=1)):
            assert abs((many * other).mean() * 12) < 5 / (steps * len(places) * n // 1024) ** 0.5


def test_no_square_becomes_zero() -> None:
    g = np.float32(10.0) ** np.linspace(-18, 15, 8192, dtype=np.float32)
    rng = np.random.default_rng(0)
    rng.shuffle(g)
    for dtype in ("bfloat16", "uint8"):
        found = stored(g, dtype, "squares")[1]
        assert (found > 0).all()
        # What is far below the largest of its block is stored as larger than it is: its step is shorter.
        assert (found >= g * g * (7 / 8)).all()


@every_packing
def test_an_average_follows_changes_below_a_step_of_the_format(dtype: str) -> None:
    """It shrinks by a thousandth at each step, of which rounding to nearest would keep all."""
    w = np.zeros(8192, np.float32)
    opt = nf.optim.Adam([w], betas=(0.0, 0.999), state_dtype=dtype)
    opt.step([np.ones(8192, np.float32)])
    for _ in range(1000):
        opt.step([np.zeros(8192, np.float32)])
    mean = float(opt.unpacked_state()["exp_avg_sq"][0].mean())
    assert mean == pytest.approx(1e-3 * 0.999**1000, rel=0.02)


# ---- the same bits, however it is called ----


@every_rule
@every_packing
@pytest.mark.parametrize("options", [{}, {"clip_global_norm": 1.0, "ema_decay": 0.9}], ids=str)
def test_bits_do_not_depend_on_threads_or_fma_instruction_set(
    kind: str, settings: dict[str, Any], dtype: str, options: Any
) -> None:
    expected = trained(kind, settings, dtype, **options)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same(trained(kind, settings, dtype, **options), expected)


@every_packing
def test_bits_do_not_depend_on_the_layout(dtype: str) -> None:
    start, grads = draw(99, [(70, 60)])[0], [draw(step, [(70, 60)])[0] for step in range(3)]
    expected = make("Adam", {}, [start.copy()], dtype, ema_decay=0.9)
    for grad in grads:
        expected.step([grad])
    for name, param in layouts(start).items():
        opt = make("Adam", {}, [param], dtype, ema_decay=0.9)
        for grad in grads:
            opt.step([layouts(grad)[name if name != "spaced" else "reversed"]])
        assert_same(opt, expected)
        assert_same_bits(opt.averaged_params()[0], expected.averaged_params()[0])


@every_rule
@every_packing
@pytest.mark.parametrize("way", ["dict", "file", "pickle", "copy"])
def test_a_resumed_run_continues_with_the_same_bits(
    kind: str, settings: dict[str, Any], dtype: str, way: str, tmp_path: Path
) -> None:
    expected = trained(kind, settings, dtype, range(6), rounding_seed=5)
    first = trained(kind, settings, dtype, range(3), rounding_seed=5)
    if way in ("pickle", "copy"):
        second = pickle.loads(pickle.dumps(first)) if way == "pickle" else copy.deepcopy(first)
    else:
        second = make(kind, settings, [p.copy() for p in first.params], dtype, rounding_seed=8)
        if way == "dict":
            second.load_state_dict(first.state_dict())
        else:
            first.save(tmp_path / "state.npz")
            second.load(tmp_path / "state.npz")
        assert second.rounding_seed == 5
    for step in range(3, 6):
        second.step(draw(step))
    assert_same(second, expected)


@every_packing
def test_bits_depend_on_seed_step_and_parameter(dtype: str) -> None:
    def states(**options: Any) -> list[Array]:
        w = [np.zeros(5000, np.float32) for _ in range(2)]
        opt = nf.optim.SGD(w, momentum=0.5, state_dtype=dtype, **options)
        g = draw(1, [(5000,)])[0]
        opt.step([g, g])
        first = [array.copy() for array in opt.state["momentum_buffer"]]
        opt.momentum = 0.0
        opt.step([g, g])
        return [*first, *opt.state["momentum_buffer"]]

    found = [*states(), *states(rounding_seed=1)]
    for i, one in enumerate(found):
        assert all((one != other).any() for other in found[:i])
    for a, b in zip(states(), states(), strict=True):
        assert_same_bits(a, b)


@every_packing
def test_a_parameter_without_gradient_keeps_the_others_places(dtype: str) -> None:
    grads = draw(1)
    both, one = (make("Adam", {}, draw(99), dtype) for _ in range(2))
    both.step(grads)
    one.step([None, None, grads[2]])
    for name, arrays in both.state.items():
        assert_same_bits(one.state[name][2], arrays[2])


# ---- what float32 does ----


@every_rule
@every_packing
def test_gradients_that_are_not_finite_spoil_what_they_do_in_float32(
    kind: str, settings: dict[str, Any], dtype: str
) -> None:
    packed, plain = (make(kind, settings, draw(99), each) for each in (dtype, "float32"))
    rng = np.random.default_rng(0)
    for step in range(5):
        grads = draw(step)
        if step == 1:
            for g in grads:
                g.reshape(-1)[rng.integers(0, g.size, 3)] = np.nan, np.inf, -np.inf
                g.reshape(-1)[rng.integers(0, g.size, 2)] = 1e30, -3e38
        with np.errstate(all="ignore"):
            for opt in (packed, plain):
                opt.step([g.copy() for g in grads])
        for a, b in zip(packed.params, plain.params, strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(np.isinf(a), np.isinf(b))
    for name, arrays in packed.unpacked_state().items():
        for a, b in zip(arrays, plain.state[name], strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(np.isinf(a), np.isinf(b))


@every_packing
def test_a_step_with_nan_can_be_skipped(dtype: str) -> None:
    opt = make("Adam", {}, draw(99), dtype, skip_nonfinite=True)
    before = [array.copy() for array in everything(opt)]
    grads = draw(1)
    grads[1][3, 4] = np.nan
    stats = opt.step(grads, stats=True)
    assert stats is not None
    assert stats.skipped
    assert stats.nans.tolist() == [0, 1, 0]
    for a, b in zip(everything(opt), before, strict=True):
        assert_same_bits(a, b)


@every_rule
@every_packing
def test_stats_options_and_accumulated_gradients_are_as_with_float32(
    kind: str, settings: dict[str, Any], dtype: str
) -> None:
    options: dict[str, Any] = {"clip_norm": 1.0, "ema_decay": 0.5}
    packed, plain = (make(kind, settings, draw(99), each, **options) for each in (dtype, "float32"))
    for opt in (packed, plain):
        opt.accumulate(draw(1))
    found, expected = (opt.step(draw(2), stats=True, grad_scale=0.5) for opt in (packed, plain))
    for name in ("grad_norm", "update_norm", "param_norm"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    # The state of the first step is rounded after it.
    for a, b in zip(packed.params, plain.params, strict=True):
        assert_same_bits(a, b)
    for a, b in zip(packed.averaged_params(), plain.averaged_params(), strict=True):
        assert_same_bits(a, b)


@every_packing
def test_float16_parameters_have_a_master(dtype: str) -> None:
    half = [p.astype(np.float16) for p in draw(99)]
    packed = make("Adam", {}, half, dtype)
    single = make("Adam", {}, [p.astype(np.float32) for p in half], dtype)
    for step in range(3):
        grads = draw(step, dtype=np.float16)
        packed.step(grads)
        single.step([g.astype(np.float32) for g in grads])
    for name, arrays in packed.state.items():
        for a, b in zip(arrays, single.state[name], strict=True):
            assert_same_bits(a, b)
    for a, b in zip(packed.params, single.params, strict=True):
        assert_same_bits(a, b.astype(np.float16))


@every_packing
@pytest.mark.parametrize("kind", ["Adam", "SGD", "RMSprop", "Lion"])
def test_as_much_is_learned_as_with_float32(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 128)).astype(np.float32)
    true = rng.standard_normal((128, 40)).astype(np.float32)
    y = x @ true + rng.standard_normal((256, 40)).astype(np.float32) / 10
    losses = []
    for each in (dtype, "float32"):
        w = np.zeros((128, 40), np.float32)
        settings = {"momentum": 0.9} if kind == "SGD" else {}
        lr = {"SGD": 0.02, "Lion": 3e-3}.get(kind, 1e-2)
        opt = getattr(nf.optim, kind)([w], lr=lr, state_dtype=each, **settings)
        for _ in range(400):
            opt.step([x.T @ (x @ w - y) / 256])
        losses.append(float(((x @ w - y) ** 2).mean()))
    assert losses[0] < 1.1 * losses[1]


# ---- arrays, settings and errors ----


def test_state_has_as_many_bytes_as_it_says() -> None:
    def size(dtype: Any) -> int:
        w = [np.zeros(100_000, np.float32), np.zeros(4095, np.float32)]
        opt = nf.optim.Adam(w, state_dtype=dtype)
        return sum(array.nbytes for arrays in opt.state.values() for array in arrays)

    assert size("float32") == 2 * 4 * 104_095
    assert size("bfloat16") == 2 * 2 * 104_095
    assert size("uint8") == 2 * (130 * -(-100_000 // 128) + 4 * 4095)


@every_packing
def test_dtypes_and_shapes(dtype: str) -> None:
    opt = make("Adam", {}, [np.asfortranarray(p) for p in draw(99)], dtype)
    for arrays in opt.state.values():
        if dtype == "bfloat16":
            assert [a.dtype for a in arrays] == [np.uint16] * 3
            assert [a.shape for a in arrays] == SHAPES
        else:
            assert [a.dtype for a in arrays] == [np.float32, np.uint8, np.uint8]
            assert [a.shape for a in arrays] == [(3,), (33, 130), (82, 130)]
        assert not any(a.any() for a in arrays)
    assert opt.state_dtype == dtype
    assert f"state_dtype={dtype!r}" in repr(opt)
    numbers = opt.unpacked_state()
    assert list(numbers) == list(opt.state)
    assert all(a.shape == s for each in numbers.values() for a, s in zip(each, SHAPES, strict=True))


@every_packing
def test_clones_groups_and_names(dtype: str) -> None:
    names = {"w": np.zeros((70, 60), np.float32), "b": np.zeros(60, np.float32)}
    groups = [{"params": {"w": names["w"]}, "lr": 0.5}, {"params": {"b": names["b"]}}]
    opt = make("AdamW", {}, groups, dtype, rounding_seed=3)
    other = opt.clone({name: np.zeros_like(p) for name, p in names.items()})
    assert (other.state_dtype, other.rounding_seed) == (dtype, 3)
    grads = dict(zip(names, draw(1, [(70, 60), (60,)]), strict=True))
    for each in (opt, other):
        each.step(grads)
    assert_same(opt, other)
    unbound = make("AdamW", {}, [], dtype).clone()
    unbound.step(grads, params={name: np.zeros_like(p) for name, p in names.items()})
    assert unbound.state_dtype == dtype


def test_states_of_before_load_as_float32() -> None:
    opt = nf.optim.Adam(draw(99))
    opt.step(draw(1))
    saved = opt.state_dict()
    settings = str(saved["settings"])
    for name in ("state_dtype", "rounding_seed"):
        assert f'"{name}"' in settings
    old = settings.replace(', "state_dtype": "float32"', "").replace(', "rounding_seed": 0', "")
    assert "state_dtype" not in old
    assert "rounding_seed" not in old
    again = nf.optim.Adam([p.copy() for p in opt.params])
    again.load_state_dict({**saved, "settings": np.array(old)})
    for each in (opt, again):
        each.step(draw(2))
    assert_same(again, opt)
    attributes = opt.__getstate__()
    for name in ("_state_dtype", "rounding_seed"):
        attributes.pop(name)
    restored = nf.optim.Adam.__new__(nf.optim.Adam)
    restored.__setstate__(attributes)
    assert restored.state_dtype == "float32"


def test_errors() -> None:
    w = np.zeros(5000, np.float32)
    for wrong in ("float16", "int8", None, 8):
        with pytest.raises(
            ValueError, match=r"state_dtype must be 'float32', 'bfloat16' or 'uint8'"
        ):
            nf.optim.Adam([w], state_dtype=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="state_dtype must be 'float32' for Adagrad, got 'uint8'"):
        nf.optim.Adagrad([w], state_dtype="uint8")
    with pytest.raises(
        TypeError, match=r"params\[0\] must have dtype float16, bfloat16 or float32 where"
    ):
        nf.optim.Adam([np.zeros(3)], state_dtype="bfloat16")
    with pytest.raises(ValueError, match="centered must be False where state_dtype is 'bfloat16'"):
        nf.optim.RMSprop([w], centered=True, state_dtype="bfloat16")
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="rounding_seed must be"):
            nf.optim.Adam([w], state_dtype="bfloat16", rounding_seed=seed)
    opt = nf.optim.Adam([w], state_dtype="uint8")
    rows = nf.optim.Rows(np.array([0]), np.zeros((1, 5000), np.float32))
    table = nf.optim.Adam([np.zeros((2, 5000), np.float32)], state_dtype="uint8")
    with pytest.raises(TypeError, match="must be an array where state_dtype is 'uint8', got Rows"):
        table.step([rows])
    with pytest.raises(AttributeError):
        opt.state_dtype = "float32"  # type: ignore[misc]
    for name, wrong_array, error in (
        ("exp_avg", np.zeros((3, 130), np.uint8), r"must have shape \(40, 130\), got \(3, 130\)"),
        ("exp_avg", np.zeros((40, 260), np.uint8)[:, ::2], "must be contiguous"),
        ("exp_avg_sq", np.zeros((5000, 1), np.uint16), r"must have shape \(5000\,\)"),
    ):
        kept = opt.state[name][0]
        opt.state[name][0] = wrong_array
        with pytest.raises(ValueError, match=error):
            opt.step([w.copy()])
        opt.state[name][0] = kept
    plain = nf.optim.Adam([w])
    plain.state["exp_avg"][0] = np.zeros(5000, np.uint16)
    with pytest.raises(TypeError, match="must have dtype float32, got uint16"):
        plain.step([w.copy()])
    other = nf.optim.Adam([w], state_dtype="bfloat16")
    with pytest.raises((TypeError, ValueError), match="state"):
        other.load_state_dict(opt.state_dict())
    assert other.step_count == 0


def test_a_state_of_another_dtype_is_told_by_its_settings() -> None:
    w = np.zeros(3, np.float32)  # of so few both are float32
    first, second = nf.optim.Adam([w], state_dtype="uint8"), nf.optim.Adam([w])
    with pytest.raises(ValueError, match="must have state_dtype 'float32', got 'uint8'"):
        second.load_state_dict(first.state_dict())
    second.load_state_dict(first.state_dict(), keep_settings=True)
