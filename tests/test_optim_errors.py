"""Errors of optimizers, which change nothing: kinds of arrays, numbers, shared memory, arrays that became others."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from nnfast import _core
from optim_rules import (
    Array,
    assert_same_arrays,
    every_kind,
    everything,
)


def ones(*shape: int, dtype: Any = np.float64) -> Array:
    return np.ones(shape, dtype)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def make(kind: str, params: Any, **settings: Any) -> Any:
    return getattr(nf.optim, kind)(params, **settings)


# ---- parameters ----

MEMORY = np.zeros(10)


@every_kind
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (ones(3), TypeError, "params must be a sequence or mapping of arrays, got ndarray"),
        (iter([ones(3)]), TypeError, "params must be a sequence or mapping"),
        ([ones(3), [1.0]], TypeError, r"params\[1\] must be a numpy.ndarray, got list"),
        (
            [ones(3, dtype=int)],
            TypeError,
            r"params\[0\] must have dtype float16, bfloat16, float32 or",
        ),
        (
            [ones(3, dtype=complex)],
            TypeError,
            r"params\[0\] must have dtype float16, bfloat16, float32 or",
        ),
        ([ones(3, dtype=">f8")], TypeError, r"params\[0\] must have dtype float64, got >f8"),
        ([ones(3), frozen(ones(3))], ValueError, r"params\[1\] must be writeable"),
        ([MEMORY[:6], MEMORY[5:]], ValueError, r"params\[0\] and params\[1\] must not share"),
        ({1: ones(3), "1": ones(3)}, ValueError, "params must have names that differ as text"),
        ([{"params": ones(3)}], TypeError, r"params\[0\]\['params'\] must be a sequence or map"),
        ([{"lr": 0.1}], ValueError, r'params\[0\] must have "params"'),
        ([{"params": [], "speed": 0.1}], ValueError, r"params\[0\] must not set 'speed'"),
        ([{"params": []}, {"params": [], "lr": -1}], ValueError, r"params\[1\]\['lr'\] must not"),
        ([{"params": []}, {"params": [], "lr": "x"}], TypeError, r"params\[1\]\['lr'\] must be a"),
        (
            [{"params": {"w": ones(3)}}, {"params": [ones(3)]}],
            ValueError,
            "params must have names in all groups, or in none",
        ),
        (
            [{"params": {"w": ones(3)}}, {"params": {"w": ones(3)}}],
            ValueError,
            "params must have names that differ from group to group",
        ),
        (
            [{"params": [MEMORY[:6]]}, {"params": [MEMORY[5:]]}],
            ValueError,
            r"params\[0\] and params\[1\] must not share memory",
        ),
    ],
)
def test_parameters_are_checked(
    kind: str, params: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(kind, params)


@every_kind
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.5, "skip_nonfinite": True}], ids=str)
def test_nothing_to_update(kind: str, options: Any) -> None:
    for params in ([], {}, (), [{"params": []}, {"params": {}}]):
        optimizer = make(kind, params, **options)
        optimizer.step({} if isinstance(params, dict) else [])
        optimizer.step({} if isinstance(params, dict) else [], stats=True)
        assert optimizer.step_count == 2
        optimizer.load_state_dict(optimizer.state_dict())
    empty, point = np.zeros((0, 3)), np.array(2.0)
    optimizer = make(kind, OrderedDict(empty=empty, point=point), **options)
    optimizer.step({"point": np.array(1.0), "empty": np.zeros((0, 3))})
    assert point < 2


# ---- numbers ----


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("SGD", {"lr": -1}, ValueError, "lr must not be negative, got -1.0"),
        ("SGD", {"lr": np.nan}, ValueError, "lr must not be negative"),
        ("SGD", {"lr": "fast"}, TypeError, "lr must be a real number, got str"),
        ("SGD", {"momentum": -0.1}, ValueError, "momentum must not be negative"),
        ("SGD", {"weight_decay": -1}, ValueError, "weight_decay must not be negative"),
        ("SGD", {"dampening": "x"}, TypeError, "dampening must be a real number"),
        ("SGD", {"nesterov": True}, ValueError, "nesterov needs momentum"),
        (
            "SGD",
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "nesterov needs momentum above 0 and dampening 0",
        ),
        ("Adagrad", {"lr_decay": -1}, ValueError, "lr_decay must not be negative"),
        ("Adagrad", {"initial_accumulator_value": -1}, ValueError, "initial_accumulator_value"),
        ("Adadelta", {"rho": 1.0}, ValueError, r"rho must be in \[0, 1\), got 1.0"),
        ("RMSprop", {"alpha": 1.0}, ValueError, r"alpha must be in \[0, 1\)"),
        ("RMSprop", {"momentum": np.nan}, ValueError, "momentum must not be negative"),
        ("Adam", {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] must be in \[0, 1\)"),
        ("Adam", {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\] must be in \[0, 1\)"),
        ("Adam", {"betas": (0.9, "x")}, TypeError, r"betas\[1\] must be a real number"),
        ("Adam", {"betas": 0.9}, TypeError, "betas must be two numbers, got 0.9"),
        ("Adam", {"betas": (0.9,)}, TypeError, "betas must be two numbers"),
        ("Adam", {"eps": -1e-8}, ValueError, "eps must not be negative"),
        ("Adam", {"speed": 1}, TypeError, "Adam has no argument 'speed'"),
        ("Adam", {"ema_decay": 1.0}, ValueError, r"ema_decay must be in \[0, 1\), got 1.0"),
        ("Adam", {"clip_value": 0}, ValueError, "clip_value must be positive, got 0.0"),
        ("Adam", {"clip_norm": -1}, ValueError, "clip_norm must be positive"),
        ("Adam", {"clip_global_norm": np.nan}, ValueError, "clip_global_norm must be positive"),
        (
            "Adam",
            {"clip_value": 1, "clip_global_norm": 1},
            ValueError,
            "clip_value and clip_global_norm exclude each other",
        ),
        (
            "Adam",
            {"clip_norm": 1, "clip_global_norm": 1},
            ValueError,
            "clip_norm and clip_global_norm exclude each other",
        ),
        ("Adam", {"convention": "jax"}, ValueError, "convention must be 'torch', 'keras'"),
        ("NAdam", {"momentum_decay": -1}, ValueError, "momentum_decay must not be negative"),
        ("Lion", {"eps": 1e-8}, TypeError, "Lion has no argument 'eps'"),
    ],
)
def test_numbers_are_checked(
    kind: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(kind, [ones(3)], **settings)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("kind", "name", "value", "error", "message"),
    [
        ("SGD", "lr", -1.0, ValueError, "lr must not be negative, got -1.0"),
        ("SGD", "weight_decay", -1.0, ValueError, "weight_decay must not be negative"),
        ("SGD", "nesterov", True, ValueError, "nesterov needs momentum above 0"),
        ("SGD", "momentum", 0.9, ValueError, "it is sgd, and cannot become sgd_momentum"),
        ("RMSprop", "momentum", 0.9, ValueError, "cannot become rmsprop_momentum"),
        ("NAdam", "betas", (1.0, 0.9), ValueError, r"betas\[0\] must be in \[0, 1\)"),
        ("NAdam", "momentum_decay", "x", TypeError, "momentum_decay must be a real number"),
        ("Adam", "eps", np.nan, ValueError, "eps must not be negative"),
        ("Adam", "betas", None, TypeError, "betas must be two numbers, got None"),
    ],
)
def test_numbers_are_checked_when_they_change(
    kind: str, name: str, value: Any, error: type[Exception], message: str, grouped: bool
) -> None:
    optimizer = make(kind, [{"params": [ones(3)]}] if grouped else [ones(3)])
    optimizer.step([ones(3)])
    before = everything(optimizer)
    was = getattr(optimizer, name)
    for _ in range(2):
        if grouped:
            optimizer.groups[0][name] = value
        else:
            setattr(optimizer, name, value)
        with pytest.raises(error, match=message):
            optimizer.step([ones(3)])
        assert_same_arrays(everything(optimizer), before)
    if grouped:
        optimizer.groups[0][name] = was
    else:
        setattr(optimizer, name, was)
    optimizer.step([ones(3)])
    assert optimizer.step_count == 2


@pytest.mark.parametrize(
    ("kind", "name", "first"),
    [("RMSprop", "centered", False), ("RMSprop", "centered", True), ("Adam", "amsgrad", True)],
)
def test_options_that_fix_the_state_cannot_change(kind: str, name: str, first: bool) -> None:
    optimizer = make(kind, [ones(3)], **{name: first})
    setattr(optimizer, name, not first)
    with pytest.raises(ValueError, match="are chosen when the optimizer is made"):
        optimizer.step([ones(3)])
    with pytest.raises(ValueError, match=f"must not set '{name}', which is for all groups"):
        make(kind, [{"params": [ones(3)], name: True}])


def test_the_number_of_groups_cannot_change() -> None:
    for change in (
        lambda opt: opt.groups.pop(),
        lambda opt: opt.groups.append({}),
        lambda opt: opt.groups.clear(),
        lambda opt: opt.params.append(ones(3)),
    ):
        w, b = ones(3), ones(2)
        optimizer = nf.optim.SGD([{"params": [w]}, {"params": [b], "lr": 0.5}])
        change(optimizer)
        grads = [np.ones_like(p) for p in optimizer.params]
        with pytest.raises(ValueError, match="params and groups must be as many as when"):
            optimizer.step(grads)
        assert_same_bits(w, ones(3))


# ---- gradients ----


@every_kind
@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (ones(4), ValueError, r"grads\[1\] must have shape \(2, 2\), got \(4,\)"),
        (ones(4, 1), ValueError, r"grads\[1\] must have shape \(2, 2\), got \(4, 1\)"),
        (ones(2, 2, dtype="f"), TypeError, r"grads\[1\] must have dtype float64, got float32"),
        (ones(2, 2, dtype=">f8"), TypeError, r"grads\[1\] must have dtype float64, got >f8"),
        (
            [[1.0, 1], [1]],
            TypeError,
            r"grads\[1\] must be an array of real numbers, got \[\[1.0, 1",
        ),
        ([[1.0, 1]], ValueError, r"grads\[1\] must have shape \(2, 2\), got \(1, 2\)"),
        (np.float32(1), TypeError, r"grads\[1\] must have dtype float64, got float32"),
        ("x", TypeError, r"grads\[1\] must be a numpy.ndarray, got str"),
    ],
)
def test_a_wrong_last_gradient_changes_nothing(
    kind: str, last: Any, error: type[Exception], message: str
) -> None:
    optimizer = make(kind, [ones(3), ones(2, 2)], ema_decay=0.5, skip_nonfinite=True)
    optimizer.step([ones(3), ones(2, 2)])
    before = everything(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step([ones(3), last])
    assert_same_arrays(everything(optimizer), before)
    assert optimizer.skipped_count == 0


def test_gradients_must_have_the_form_of_the_parameters() -> None:
    listed, named = nf.optim.SGD([ones(3)]), nf.optim.SGD({"w": ones(3)})
    for optimizer, grads, error, message in (
        (listed, [], ValueError, "grads must have one array for each of the 1 parameters, got 0"),
        (listed, [ones(3), ones(3)], ValueError, "grads must have one array for each"),
        (listed, ones(3), TypeError, "grads must be a sequence or mapping of arrays, got ndarray"),
        (listed, {"w": ones(3)}, TypeError, "grads must be a sequence of arrays"),
        (named, [ones(3)], TypeError, "grads must be a mapping, as params were, got list"),
        (named, {"v": ones(3)}, ValueError, "grads must have the names of params, but lacks 'w'"),
        (named, {"w": ones(3), "v": ones(3)}, ValueError, "the 1 names of params, got 2"),
    ):
        with pytest.raises(error, match=message):
            optimizer.step(grads)
        assert_same_bits(optimizer.params[0], ones(3))


def test_gradients_may_be_read_only_or_of_one_number() -> None:
    w = np.zeros((2, 3))
    nf.optim.SGD([w], lr=1.0).step([np.broadcast_to(2.0, (2, 3))])
    assert_same_bits(w, np.full((2, 3), -2.0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "grad", [lambda s: 2 * s, lambda s: 2, lambda s: 2.0, lambda s: s.dtype.type(2)]
)
def test_numbers_are_gradients_of_parameters_without_axes(dtype: type, grad: Any) -> None:
    scale = np.ones((), dtype)
    optimizer = nf.optim.SGD({"scale": scale}, lr=0.25)
    optimizer.step({"scale": grad(scale)})
    assert_same_bits(scale, np.full((), 0.5, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_are_gradients_of_the_parameters_dtype(dtype: type) -> None:
    w = np.ones((2, 2), dtype)
    nf.optim.SGD([w], lr=1.0).step([[[1, 2.5], (0, -1)]])
    assert_same_bits(w, np.array([[0, -1.5], [1, 2]], dtype))


def test_errors_call_arrays_by_their_keys() -> None:
    params = {"w": ones(3), "scale": ones(1)}
    optimizer = nf.optim.Adam(params, ema_decay=0.5)
    for scale, error, message in (
        (ones(2), ValueError, r"grads\['scale'\] must have shape \(1,\), got \(2,\)"),
        (ones(1, dtype="f"), TypeError, r"grads\['scale'\] must have dtype float64, got float32"),
        ("1", TypeError, r"grads\['scale'\] must be a numpy.ndarray, got str"),
        (optimizer.ema[1], ValueError, r"grads\['scale'\] and ema\['scale'\] must not share"),
    ):
        with pytest.raises(error, match=message):
            optimizer.step({"w": ones(3), "scale": scale})
    optimizer.state["exp_avg"][1] = ones(1, dtype="f")
    with pytest.raises(TypeError, match=r"exp_avg\['scale'\] must have dtype float64"):
        optimizer.step({"w": ones(3), "scale": ones(1)})
    with pytest.raises(TypeError, match=r"params\['scale'\] must be a numpy.ndarray, got list"):
        nf.optim.SGD({"w": ones(3), "scale": [1.0]})
    with pytest.raises(TypeError, match=r"params\['scale'\] must be a numpy.ndarray, got list"):
        nf.penalties.l2({"w": ones(3), "scale": [1.0]}, 0.1)
    with pytest.raises(ValueError, match=r"grads\['scale'\] must have shape \(1,\), got \(2,\)"):
        nf.penalties.l2(params, 0.1, grads={"w": ones(3), "scale": ones(2)})


# ---- memory ----

HALVES = {"params": np.float16, "master": np.float32}


def with_all_lists(memory: Array) -> Any:
    """Two parameters, of which the second is float16 and has a master; the first lies in `memory`."""
    optimizer = nf.optim.Adam([memory[2:6], ones(4, dtype=np.float16)], ema_decay=0.5)
    optimizer.step([ones(4), ones(4, dtype=np.float16)])
    return optimizer


def lists_of(optimizer: Any) -> dict[str, list[Any]]:
    return {**optimizer.state, "ema": optimizer.ema, "master": optimizer._master}


def refused(optimizer: Any, grads: list[Array], message: str, before: dict[str, Array]) -> None:
    for _ in range(2):  # it is not taken for checked the second time
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.step(grads)
    after = everything(optimizer)
    assert_same_arrays({name: after[name] for name in before}, before)


GRADS = [ones(4), ones(4, dtype=np.float16)]


@pytest.mark.parametrize("place", [slice(5, 9), slice(2, 6), slice(9, None, -2), slice(2, 9, 2)])
@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "ema"])
def test_state_that_shares_memory_with_a_parameter(name: str, place: slice) -> None:
    memory = ones(10)
    optimizer = with_all_lists(memory)
    lists_of(optimizer)[name][0] = memory[place][:4]
    shared = np.shares_memory(memory[2:6], memory[place][:4])
    assert shared
    refused(optimizer, GRADS, rf"params\[0\] and {name}\[0\] must not share memory", {})
    assert_same_bits(memory[:2], ones(2))
    before = memory.copy()
    refused(optimizer, GRADS, "must not share", {})
    assert_same_bits(memory, before)


@pytest.mark.parametrize(
    ("name", "other"),
    [("exp_avg_sq", "exp_avg"), ("ema", "exp_avg"), ("ema", "exp_avg_sq"), ("master", "exp_avg")],
)
def test_state_that_shares_memory_with_other_state(name: str, other: str) -> None:
    optimizer = with_all_lists(ones(10))
    lists = lists_of(optimizer)
    lists[name][1] = lists[other][1][::-1]
    before = everything(optimizer)
    message = rf"{other}\[1\] and {name}\[1\] must not share memory"
    refused(optimizer, GRADS, message, before)


@pytest.mark.parametrize("name", ["params", "exp_avg", "exp_avg_sq", "ema"])
def test_gradients_that_share_memory_with_what_is_written(name: str) -> None:
    optimizer = with_all_lists(ones(10))
    written = {"params": optimizer.params, **lists_of(optimizer)}[name][0]
    before = everything(optimizer)
    for first in (written, written[::-1]):
        message = rf"grads\[0\] and {name}\[0\] must not share memory"
        refused(optimizer, [first, GRADS[1]], message, before)
    memory = ones(10, dtype=np.float32)
    wide = nf.optim.SGD([memory[:3], memory[5:8]])
    message = r"grads\[0\] and params\[1\] must not share memory"
    refused(wide, [memory[4:7], ones(3, dtype=np.float32)], message, everything(wide))


def test_master_that_shares_memory_with_a_gradient() -> None:
    optimizer = nf.optim.SGD([ones(4, dtype=np.float16)])
    grad = optimizer._master[0].view(np.float16)[:4]
    refused(optimizer, [grad], r"grads\[0\] and master\[0\] must not", everything(optimizer))


def test_interleaved_arrays_share_no_memory() -> None:
    memory = np.zeros((6, 5))
    optimizer = nf.optim.SGD([memory[0], memory[1, ::2]], lr=1.0, momentum=0.5)
    optimizer.state["momentum_buffer"] = [memory[2], memory[3, ::2]]
    optimizer.step([memory[4], memory[1, 1::2][:1].repeat(3)])
    memory[4:] = 1
    memory[1, 1::2] = memory[3, 1::2] = 7
    optimizer.step([memory[5], memory[4, ::2]])
    np.testing.assert_array_equal(memory[0], -1)
    np.testing.assert_array_equal(memory[1], [-1, 7, -1, 7, -1])
    np.testing.assert_array_equal(memory[3], [1, 7, 1, 7, 1])
    both = np.zeros(10)
    nf.optim.SGD([both[::2], both[1::2]], lr=1.0).step([ones(5), np.full(5, 2.0)])
    np.testing.assert_array_equal(both, [-1, -2] * 5)
    inside = np.arange(10.0)
    nf.optim.SGD([inside[::2]], lr=1.0).step([inside[1::2]])
    np.testing.assert_array_equal(inside, [-1, 1, -1, 3, -1, 5, -1, 7, -1, 9])


# ---- arrays that became others ----


@pytest.mark.parametrize("name", ["params", "exp_avg", "exp_avg_sq", "ema", "master"])
def test_an_array_that_became_read_only(name: str) -> None:
    optimizer = with_all_lists(ones(10))
    before = everything(optimizer)
    array = {"params": optimizer.params, **lists_of(optimizer)}[name][1]
    array.flags.writeable = False
    refused(optimizer, GRADS, rf"{name}\[1\] must be writeable, but is read-only", before)
    array.flags.writeable = True
    optimizer.step(GRADS)
    assert optimizer.step_count == 2


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "ema", "master"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda a: a[:3], r"must have shape \(4,\), got \(3,\)"),
        (lambda a: np.resize(a, 5), r"must have shape \(4,\), got \(5,\)"),
        (lambda a: a.astype(np.float16), r"must have dtype float32, got float16"),
        (lambda a: a.tolist(), "must be a numpy.ndarray, got list"),
        (lambda a: None, "must be a numpy.ndarray, got NoneType"),
        (lambda a: frozen(a.copy()), "must be writeable, but is read-only"),
    ],
)
def test_an_array_that_was_replaced(name: str, wrong: Callable[[Array], Any], message: str) -> None:
    optimizer = with_all_lists(ones(10))
    before = everything(optimizer)
    arrays = lists_of(optimizer)[name]
    right = arrays[1]
    arrays[1] = wrong(right)
    others = {key: a for key, a in before.items() if key != f"{name}.1"}
    refused(optimizer, GRADS, rf"{name}\[1\] {message}", others if arrays[1] is not None else {})
    arrays[1] = right.copy()
    optimizer.step(GRADS)
    assert optimizer.step_count == 2


def test_an_array_that_was_made_larger_in_place() -> None:
    w = ones(3)
    optimizer = nf.optim.Adam([w])
    optimizer.state["exp_avg"][0].resize(1_000_000, refcheck=False)
    message = r"exp_avg\[0\] must have shape \(3,\), got \(1000000,\)"
    refused(optimizer, [ones(3)], message, {"params.0": ones(3)})


def test_state_that_lacks_a_list() -> None:
    for change, message in (
        (lambda state: state.clear(), "state must have 'exp_avg'"),
        (lambda state: state.pop("exp_avg_sq"), "state must have 'exp_avg_sq'"),
        (lambda state: state.update(exp_avg=[]), "exp_avg must have one array for each of the 1"),
        (lambda state: state.update(exp_avg=(ones(3),)), "state must be lists of arrays"),
    ):
        optimizer = nf.optim.Adam([ones(3)])
        change(optimizer.state)
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.step([ones(3)])
        assert_same_bits(optimizer.params[0], ones(3))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (6, 1)])
@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "ema"])
def test_an_array_that_has_another_shape_at_the_same_place(name: str, shape: Any) -> None:
    optimizer = nf.optim.Adam([ones(2, 3)], ema_decay=0.5)
    lists_of(optimizer)[name][0].resize(shape, refcheck=False)  # smaller: its memory stays
    refused(optimizer, [ones(2, 3)], rf"{name}\[0\] must have shape \(2, 3\)", {})
    assert_same_bits(optimizer.params[0], ones(2, 3))


def test_a_parameter_that_became_float16() -> None:
    """There is no float32 copy that the steps could add up in."""
    optimizer = nf.optim.SGD([ones(3)])
    optimizer.params[0] = ones(3, dtype=np.float16)
    with pytest.raises((TypeError, ValueError), match="master|float16"):
        optimizer.step([ones(3, dtype=np.float16)])
    assert_same_bits(optimizer.params[0], ones(3, dtype=np.float16))


@pytest.mark.parametrize("strides", [(8, 8), (0, 8), (16, 8)])
def test_an_array_that_overlaps_itself(strides: tuple[int, int]) -> None:
    view = np.lib.stride_tricks.as_strided(np.zeros(9), (3, 3), strides)
    with pytest.raises(ValueError, match=r"params\[0\] must not"):
        nf.optim.SGD([view])
    optimizer = nf.optim.Adam([ones(3, 3)])
    optimizer.state["exp_avg"][0] = view
    refused(optimizer, [ones(3, 3)], r"exp_avg\[0\] must not", {"params.0": ones(3, 3)})


# ---- hyperparameters of rules, by name ----


def test_a_rule_must_declare_its_hyperparameters_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["sign", "clip_value", "weight_decay", "shrink", "ema_decay", "lr", "eps", "eps_inside"]
    _core.Optimizer("adagrad", ["sum"], names, ())
    swapped = [*names[:-2], "eps_inside", "eps"]
    for wrong in (swapped, names[:-1], [*names, "decay"], names[5:]):
        with pytest.raises(ValueError, match=r"rule adagrad must be \(sign.*eps_inside\), got \("):
            _core.Optimizer("adagrad", ["sum"], wrong, ())
    with pytest.raises(ValueError, match="state_names must be 1 names for rule adagrad, got 0"):
        _core.Optimizer("adagrad", [], names, ())
    monkeypatch.setattr(nf.optim.Adagrad, "_hyperparameters", lambda self: ("eps", "lr"))
    with pytest.raises(ValueError, match=r"rule adagrad must be .*, got \(.*ema_decay, eps, lr\)"):
        nf.optim.Adagrad([ones(3)])


def test_a_rule_must_return_as_many_hyperparameters_as_it_declares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    param = ones(3)
    optimizer = nf.optim.Adagrad([param], lr=0.5)
    monkeypatch.setattr(nf.optim.Adagrad, "_values", lambda self, t, lr, settings, group: (lr, 0.0))
    with pytest.raises(
        ValueError, match=r"hyperparameters\[0\] must be \(sign.*eps_inside\), got 7 num"
    ):
        optimizer.step([ones(3)])
    np.testing.assert_array_equal(param, 1)
