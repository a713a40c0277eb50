"""Optimizers: every rule against a readable reference, bits, resuming, subnormals, errors that change nothing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from conftest import FMA_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
State = dict[str, Array]


def sgd(
    p: Array,
    g: Array,
    state: State,
    t: int,
    lr: float = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Array:
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        old = state.get("v")
        v = state["v"] = g if old is None else momentum * old + (1 - dampening) * g
        g = g + momentum * v if nesterov else v
    return p - lr * g


def adam(
    p: Array,
    g: Array,
    state: State,
    t: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    maximize: bool = False,
) -> Array:
    g = (-g if maximize else g) + weight_decay * p
    m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g * g
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


class Rule(NamedTuple):
    """A row of the table that every test below iterates."""

    name: str
    make: Callable[..., Any]
    reference: Callable[..., Array]
    settings: dict[str, Any]

    def optimizer(self, params: Any) -> Any:
        return self.make(params, **self.settings)


SGD_SETTINGS: list[dict[str, Any]] = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.1, "maximize": True},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"lr": 0.05, "momentum": 0.9, "maximize": True},
]
ADAM_SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.1, "weight_decay": 0.05},
    {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
    {"lr": 0.01, "betas": (0.0, 0.0)},
    {"lr": 0.01, "maximize": True},
]
TABLE = [
    Rule(f"{make.__name__} {settings}", make, reference, settings)
    for make, reference, all_settings in (
        (nf.optim.SGD, sgd, SGD_SETTINGS),
        (nf.optim.Adam, adam, ADAM_SETTINGS),
    )
    for settings in all_settings
]
every_rule = pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.name)
SHAPES = [(7, 33), (), (130,), (0, 4), (3, 5, 2)]


def draw(dtype: type, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def copies(arrays: list[Array]) -> list[Array]:
    return [array.copy() for array in arrays]


def train(rule: Rule, params: list[Array], dtype: type, steps: int) -> Any:
    optimizer = rule.optimizer(params)
    for step in range(steps):
        optimizer.step(draw(dtype, step))
    return optimizer


# ---- values ----


@every_rule
@both_dtypes
def test_a_hundred_steps_are_the_formula(engine: str, rule: Rule, dtype: type) -> None:
    params = draw(dtype, 1000)
    wanted = [p.astype(np.float64) for p in params]
    states: list[State] = [{} for _ in params]
    optimizer = rule.optimizer(params)
    for t in range(1, 101):
        grads = draw(dtype, t)
        optimizer.step(grads)
        wanted = [
            rule.reference(p, g.astype(np.float64), state, t, **rule.settings)
            for p, g, state in zip(wanted, grads, states, strict=True)
        ]
    assert optimizer.step_count == 100
    rounding = 200 * np.finfo(dtype).eps
    for p, w in zip(params, wanted, strict=True):
        np.testing.assert_allclose(p, w, rtol=rounding, atol=rounding)


@every_rule
def test_a_bowl_is_descended(rule: Rule) -> None:
    sign = -1 if rule.settings.get("maximize") else 1
    w = np.array([3.0, -2.0])
    optimizer = rule.optimizer([w])
    start = (w**2).sum()
    for _ in range(500):
        optimizer.step([sign * 2 * w])
    assert (w**2).sum() < 0.8 * start


def test_learning_rate_may_change() -> None:
    w = np.zeros(3)
    optimizer = nf.optim.SGD([w], lr=1.0)
    optimizer.step([np.ones(3)])
    optimizer.lr = 0.25
    optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, -1.25)
    optimizer.lr = -1.0
    with pytest.raises(ValueError, match="lr must not be negative"):
        optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, -1.25)


def test_state_is_there_to_see() -> None:
    params = draw(np.float32, 0)
    optimizer = nf.optim.Adam(params)
    assert optimizer.state.keys() == {"exp_avg", "exp_avg_sq"}
    assert nf.optim.SGD(params).state == {}
    assert nf.optim.SGD(params, momentum=0.9).state.keys() == {"momentum_buffer"}
    for arrays in optimizer.state.values():
        for array, p in zip(arrays, params, strict=True):
            assert (array.shape, array.dtype) == (p.shape, p.dtype)
            assert not array.any()
    optimizer.step(draw(np.float32, 1))
    np.testing.assert_allclose(optimizer.state["exp_avg"][0], 0.1 * draw(np.float32, 1)[0], 1e-6)
    assert optimizer.step_count == 1


# ---- the same bits, however it is called ----


@every_rule
@both_dtypes
def test_bits_do_not_depend_on_threads_or_fma_instruction_set(rule: Rule, dtype: type) -> None:
    expected = draw(dtype, 1000)
    train(rule, expected, dtype, 5)
    for isa in FMA_ISAS:
        for threads in (1, 2, 7):
            params = draw(dtype, 1000)
            with forced(isa=isa, threads=threads, grain=1):
                train(rule, params, dtype, 5)
            for p, wanted in zip(params, expected, strict=True):
                assert_same_bits(p, wanted)


@every_rule
def test_bits_do_not_depend_on_grouping(rule: Rule) -> None:
    expected = draw(np.float32, 1000)
    train(rule, expected, np.float32, 5)
    params = draw(np.float32, 1000)
    optimizers = [rule.optimizer([p]) for p in params]
    for step in range(5):
        for optimizer, g in zip(optimizers, draw(np.float32, step), strict=True):
            optimizer.step([g])
    for p, wanted in zip(params, expected, strict=True):
        assert_same_bits(p, wanted)


@every_rule
@both_dtypes
def test_bits_do_not_depend_on_the_layout(isa: str, rule: Rule, dtype: type) -> None:
    rng = np.random.default_rng(0)
    start, *grads = rng.standard_normal((4, 5, 37)).astype(dtype)
    expected = start.copy()
    optimizer = rule.optimizer([expected])
    for g in grads:
        optimizer.step([g])
    for name in layouts(start):
        for other in ("contiguous", name, "fortran"):
            p = layouts(start)[name]
            optimizer = rule.optimizer([p])
            for g in grads:
                optimizer.step([layouts(g)[other]])
            assert_same_bits(p, expected)


@every_rule
def test_mixed_dtypes_and_mappings(rule: Rule) -> None:
    narrow, wide = np.ones(40, np.float32), np.ones((2, 3))
    by_name = {"narrow": narrow, "wide": wide}
    optimizer = rule.optimizer(by_name)
    optimizer.step({"wide": np.ones((2, 3)), "narrow": np.ones(40, np.float32)})
    for array in (narrow, wide):
        alone = np.ones(array.shape, array.dtype)
        rule.optimizer([alone]).step([np.ones(array.shape, array.dtype)])
        assert_same_bits(array, alone)


@every_rule
def test_a_resumed_run_continues_with_the_same_bits(rule: Rule) -> None:
    expected = draw(np.float32, 1000)
    train(rule, expected, np.float32, 8)
    params = draw(np.float32, 1000)
    first = train(rule, params, np.float32, 4)
    resumed = rule.optimizer(params)
    resumed.step_count = first.step_count
    resumed.state = {name: copies(arrays) for name, arrays in first.state.items()}
    for step in range(4, 8):
        resumed.step(draw(np.float32, step))
    for p, wanted in zip(params, expected, strict=True):
        assert_same_bits(p, wanted)


# ---- subnormals ----


@both_dtypes
def test_dead_gradients_leave_no_subnormals(engine: str, dtype: type) -> None:
    w = np.ones(50, dtype)
    tiny = np.finfo(dtype).smallest_normal
    start = dtype(tiny * 1000)  # near the end of its decay
    adam = nf.optim.Adam([w])
    momentum = nf.optim.SGD([w.copy()], momentum=0.9)
    for state in (*adam.state.values(), *momentum.state.values()):
        state[0][...] = start
    momentum.step_count = adam.step_count = 5
    for _ in range(200):
        adam.step([np.zeros(50, dtype)])
        momentum.step([np.zeros(50, dtype)])
    for array in (adam.state["exp_avg"][0], momentum.state["momentum_buffer"][0]):
        assert ((array == 0) | (np.abs(array) >= tiny)).all()
        np.testing.assert_array_equal(array, 0)


def test_floating_point_mode_is_left_as_found() -> None:
    half_of_smallest_normal = np.full(3000, np.finfo(np.float32).smallest_normal) / 2
    with forced(threads=2, grain=1):
        nf.optim.Adam([np.ones(3000, np.float32)]).step([np.ones(3000, np.float32)])
        assert (half_of_smallest_normal * np.float32(0.5) != 0).all()
        # Our own threads keep subnormals outside an optimizer, too.
        assert (nf.leaky_relu(-half_of_smallest_normal, 0.5) != 0).all()


# ---- errors ----


def frozen() -> Array:
    array = np.ones(3)
    array.flags.writeable = False
    return array


MEMORY = np.zeros(10)


@pytest.mark.parametrize("make", [nf.optim.SGD, nf.optim.Adam])
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (np.ones(3), TypeError, "params must be a sequence or mapping of arrays, got ndarray"),
        (iter([np.ones(3)]), TypeError, "params must be a sequence or mapping"),
        ([np.ones(3), [1.0]], TypeError, r"params\[1\] must be a numpy.ndarray, got list"),
        ([np.ones(3, int)], TypeError, r"params\[0\] must have dtype float16, float32 or float64"),
        ([np.ones(3, ">f8")], TypeError, r"params\[0\] must have dtype float64"),
        ([np.ones(3), frozen()], ValueError, r"params\[1\] must be writeable"),
        (
            [MEMORY[:6], MEMORY[5:]],
            ValueError,
            r"params\[0\] and params\[1\] must not share memory",
        ),
    ],
)
def test_parameters_are_checked(
    make: Any, params: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(params)


def test_interleaved_parameters_share_no_memory() -> None:
    memory = np.zeros(10)
    nf.optim.SGD([memory[::2], memory[1::2]], lr=1.0).step([np.ones(5), np.full(5, 2.0)])
    np.testing.assert_array_equal(memory, [-1, -2] * 5)


@pytest.mark.parametrize(
    ("make", "settings", "error", "message"),
    [
        (nf.optim.SGD, {"lr": -1}, ValueError, "lr must not be negative, got -1.0"),
        (nf.optim.SGD, {"lr": np.nan}, ValueError, "lr must not be negative"),
        (nf.optim.SGD, {"lr": "fast"}, TypeError, "lr must be a real number, got str"),
        (nf.optim.SGD, {"momentum": -0.1}, ValueError, "momentum must not be negative"),
        (nf.optim.SGD, {"weight_decay": -1}, ValueError, "weight_decay must not be negative"),
        (nf.optim.SGD, {"dampening": "x"}, TypeError, "dampening must be a real number"),
        (nf.optim.SGD, {"nesterov": True}, ValueError, "nesterov needs momentum"),
        (
            nf.optim.SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "nesterov needs momentum above 0 and dampening 0",
        ),
        (nf.optim.Adam, {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] must be in \[0, 1\)"),
        (nf.optim.Adam, {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\] must be in \[0, 1\)"),
        (nf.optim.Adam, {"betas": (0.9, "x")}, TypeError, r"betas\[1\] must be a real number"),
        (nf.optim.Adam, {"betas": 0.9}, TypeError, "betas must be two numbers, got 0.9"),
        (nf.optim.Adam, {"betas": (0.9,)}, TypeError, "betas must be two numbers"),
        (nf.optim.Adam, {"eps": -1e-8}, ValueError, "eps must not be negative"),
    ],
)
def test_numbers_are_checked(
    make: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make([np.ones(3)], **settings)


@every_rule
@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (np.ones(4), ValueError, r"grads\[1\] must have shape \(2, 2\), got \(4,\)"),
        (np.ones((2, 2), "f"), TypeError, r"grads\[1\] must have dtype float64, got float32"),
        (np.ones((2, 2), ">f8"), TypeError, r"grads\[1\] must have dtype float64, got >f8"),
        ([[1.0, 1], [1, 1]], TypeError, r"grads\[1\] must be a numpy.ndarray, got list"),
    ],
)
def test_a_wrong_last_gradient_changes_nothing(
    rule: Rule, last: Any, error: type[Exception], message: str
) -> None:
    params = [np.ones(3), np.ones((2, 2))]
    optimizer = rule.optimizer(params)
    with pytest.raises(error, match=message):
        optimizer.step([np.ones(3), last])
    assert all((p == 1).all() for p in params)
    assert not any(array.any() for arrays in optimizer.state.values() for array in arrays)
    assert optimizer.step_count == 0


def test_gradients_come_as_parameters_did() -> None:
    ones = np.ones(3)
    listed, named = nf.optim.SGD([ones.copy()]), nf.optim.SGD({"w": ones.copy()})
    for optimizer, grads, error, message in (
        (listed, [], ValueError, "grads must have one array for each of the 1 parameters, got 0"),
        (listed, [ones, ones], ValueError, "grads must have one array for each"),
        (listed, ones, TypeError, "grads must be a sequence or mapping of arrays, got ndarray"),
        (listed, {"w": ones}, TypeError, "grads must be a sequence of arrays"),
        (named, [ones], TypeError, "grads must be a mapping, as params were, got list"),
        (named, {"v": ones}, ValueError, "grads must have the names of params, but lacks 'w'"),
        (named, {"w": ones, "v": ones}, ValueError, "grads must have the 1 names of params, got 2"),
    ):
        with pytest.raises(error, match=message):
            optimizer.step(grads)
        np.testing.assert_array_equal(optimizer.params[0], 1)


def test_a_parameter_that_became_read_only() -> None:
    w = np.ones(3)
    optimizer = nf.optim.SGD([w])
    w.flags.writeable = False
    with pytest.raises(ValueError, match=r"params\[0\] must be writeable"):
        optimizer.step([np.ones(3)])


def test_state_of_another_shape_is_refused() -> None:
    w = np.ones(3)
    optimizer = nf.optim.Adam([w])
    for wrong in (np.ones(2), np.ones(3, np.float32), [0.0, 0, 0]):
        optimizer.state["exp_avg"] = [wrong]
        with pytest.raises((TypeError, ValueError), match=r"exp_avg\[0\] must"):
            optimizer.step([np.ones(3)])
    optimizer.state["exp_avg"] = []
    with pytest.raises(ValueError, match="exp_avg must have one array for each"):
        optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, 1)


def test_a_gradient_that_is_also_written_is_refused() -> None:
    w = np.ones(6)
    optimizer = nf.optim.SGD([w[:4]])
    with pytest.raises(ValueError, match=r"grads\[0\] and params\[0\] must not share memory"):
        optimizer.step([w[2:]])
