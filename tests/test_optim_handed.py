"""Parameters that are handed over, put in another's place or restored, and one optimizer for several networks."""

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from optim_rules import (
    Array,
    Rule,
    assert_same_arrays,
    copies,
    draw,
    every_dtype,
    every_kernel,
    every_kind,
    everything,
    start,
    train,
)


def assert_same(actual: list[Array], expected: list[Array]) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert_same_bits(a, e)


# ---- step(grads, params=...) ----


@every_kernel
@every_dtype
def test_steps_of_arrays_that_are_handed_over(rule: Rule, dtype: type) -> None:
    """New arrays at every step, as ``w = w.copy()`` leaves them."""
    expected = rule.optimizer(start(dtype), ema_decay=0.5)
    optimizer = rule.optimizer(start(dtype), ema_decay=0.5)
    params = optimizer.params
    for t in range(4):
        train(expected, range(t, t + 1), dtype)
        before, params = params, copies(params)
        kept = copies(before)
        optimizer.step(draw(dtype, t), params=params)
        assert all(a is b for a, b in zip(optimizer.params, params, strict=True))
        assert_same(before, kept)
    assert_same_arrays(everything(optimizer), everything(expected))
    optimizer.step(draw(dtype, 4))  # those of the last step
    train(expected, range(4, 5), dtype)
    assert_same(params, expected.params)


def test_by_name_by_position_and_in_groups() -> None:
    for grouped in (False, True):
        w, b = np.zeros(3), np.zeros(2)
        params: Any = {"w": w, "b": b}
        if grouped:
            params = [{"params": {"w": w}}, {"params": {"b": b}, "lr": 0.5}]
        optimizer = nf.optim.SGD(params, lr=1.0)
        handed = {"b": np.ones(2), "w": np.full(3, 2.0)}  # in another order
        optimizer.step({"w": np.ones(3), "b": np.ones(2)}, params=handed)
        np.testing.assert_array_equal(handed["w"], 1)
        np.testing.assert_array_equal(handed["b"], 0.5 if grouped else 0)
        assert not w.any()
        assert not b.any()
    optimizer = nf.optim.SGD([{"params": [w]}, {"params": [b], "lr": 0.5}], lr=1.0)
    handed = np.ones(3), np.ones(2)
    optimizer.step([np.ones(3), np.ones(2)], params=handed)
    assert [p.tolist() for p in handed] == [[0] * 3, [0.5] * 2]


def test_handed_over_with_other_options() -> None:
    first, second = np.ones((2, 3)), np.ones((2, 3))
    optimizer = nf.optim.Adam([first], skip_nonfinite=True)
    assert optimizer.step([np.full((2, 3), np.nan)], params=[second], stats=True).skipped
    assert optimizer.params[0] is second  # a skipped step has taken them, too
    optimizer = nf.optim.SGD([np.ones(2), np.ones(3)], lr=1.0, ema_decay=0.5)
    handed = [np.full(2, 5.0), np.full(3, 5.0)]
    stats = optimizer.step([None, np.ones(3)], params=handed, stats=True)
    assert [p.tolist() for p in handed] == [[5] * 2, [4] * 3]
    np.testing.assert_allclose(stats.param_norm, [np.sqrt(50), np.sqrt(48)])
    np.testing.assert_array_equal(optimizer.averaged_params()[0], 5)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (
            [np.ones(3)],
            ValueError,
            "params must have one array for each of the 2 parameters, got 1",
        ),
        ([np.ones(3), np.ones(3)], ValueError, r"params\[1\] must have shape \(2,\), got \(3,\)"),
        (
            [np.ones(3), np.ones(2, "f")],
            TypeError,
            r"params\[1\] must have dtype float64, got floa",
        ),
        ([np.ones(3), np.ones(2, ">f8")], TypeError, r"params\[1\] must have dtype float64, got >"),
        ([np.ones(3), [1.0, 1.0]], TypeError, r"params\[1\] must be a numpy.ndarray, got list"),
        ([np.ones(3), frozen(np.ones(2))], ValueError, r"params\[1\] must be writeable"),
        ([np.ones(3), np.ma.masked_less(np.ones(2), 0)], TypeError, "without a mask"),
        ({"w": np.ones(3), "b": np.ones(2)}, TypeError, "params must be a sequence of arrays"),
        (np.ones((2, 3)), TypeError, "params must be a sequence or mapping of arrays, got ndarray"),
    ],
)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_handed_over_arrays_that_do_not_fit_change_nothing(
    kind: str, params: Any, error: type[Exception], message: str
) -> None:
    optimizer = getattr(nf.optim, kind)([np.ones(3), np.ones(2)])
    grads = [np.ones(3), np.ones(2)]
    optimizer.step(grads)
    before, held = everything(optimizer), list(optimizer.params)
    given = copy.deepcopy(params)
    for _ in range(2):
        with pytest.raises(error, match=message):
            optimizer.step(grads, params=params)
        assert all(a is b for a, b in zip(optimizer.params, held, strict=True))
        assert_same_arrays(everything(optimizer), before)
        assert repr(params) == repr(given)
    optimizer.step(grads)
    assert optimizer.step_count == 2


def test_names_shared_memory_and_gradients_that_do_not_fit() -> None:
    optimizer = nf.optim.Adam({"w": np.ones(3), "b": np.ones(2)})
    grads = {"w": np.ones(3), "b": np.ones(2)}
    optimizer.step(grads)
    before, held = everything(optimizer), list(optimizer.params)
    memory = np.ones(4)
    for params, of, message in (
        (
            {"w": np.ones(3), "c": np.ones(2)},
            grads,
            "names of the optimizer's params, but lacks 'b'",
        ),
        (
            {**grads, "c": np.ones(2)},
            grads,
            "params must have the 2 names of the optimizer's params",
        ),
        ({"w": memory[:3], "b": memory[2:]}, grads, r"params\['w'\] and params\['b'\] must not sh"),
        ({"w": optimizer.state["exp_avg"][0], "b": np.ones(2)}, grads, "must not share memory"),
        (grads, grads, r"grads\['w'\] and params\['w'\] must not share memory"),
        ({"w": np.ones(3), "b": np.ones(2)}, {**grads, "w": np.ones(4)}, r"grads\['w'\] must have"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.step(of, params=params)
        assert all(a is b for a, b in zip(optimizer.params, held, strict=True))
        assert_same_arrays(everything(optimizer), before)
        assert (memory == 1).all()
    with pytest.raises(TypeError, match="params must be a mapping, as the optimizer's params were"):
        optimizer.step(grads, params=held)
    net = nf.nn.Sequential(nf.nn.Dense(2, 2))
    opt = nf.optim.SGD(net.named_params())
    with pytest.raises(ValueError, match="must be the arrays of the network themselves"):
        opt.step(net.named_grads(), params=net.state_dict())


# ---- parameters that are put in another's place ----


class Network:
    """As people write it: weights as attributes and in a dict."""

    def __init__(self, dtype: type = np.float64) -> None:
        self.w = np.ones(3, dtype)
        self.params = {"w": self.w}


@pytest.mark.parametrize("how", ["handed", "function"])
def test_an_attribute_that_is_rebound(how: str) -> None:
    net = Network()
    optimizer, state = nf.optim.SGD([net.w], lr=1.0, momentum=0.5), None
    for t in range(3):
        if t == 1:
            net.w = net.w * 2
        if how == "handed":
            optimizer.step([np.ones(3)], params=[net.w])
        else:
            _, state = nf.optim.sgd(net.w, np.ones(3), state, lr=1.0, momentum=0.5)
    np.testing.assert_array_equal(net.w, 0 * 2 - 1.5 - 1.75)


@pytest.mark.parametrize("container", [dict, list])
def test_a_rebound_entry_is_seen(container: Any) -> None:
    net = Network()
    params: Any = net.params if container is dict else [net.w]
    key: Any = "w" if container is dict else 0
    grads: Any = {"w": np.ones(3)} if container is dict else [np.ones(3)]
    optimizer = nf.optim.SGD(params, lr=1.0)
    params[key] = params[key].copy()
    message = rf"params\[{key!r}\] is another array .*, params\[{key!r}\]\[...\] = value, or pass"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            optimizer.step(grads)
        assert (net.w == 1).all()
        assert (optimizer.step_count, params[key].tolist()) == (0, [1] * 3)
    optimizer.step(grads, params=params)
    assert params[key].tolist() == [0] * 3
    optimizer.step(grads)  # the dict holds what the optimizer updates
    params[key] -= 1  # the same array
    optimizer.step(grads)
    assert params[key].tolist() == [-3] * 3
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        again.step(grads)
        assert again.params[0].tolist() == [-4] * 3
    params[key] = params[key].copy()
    with pytest.raises(ValueError, match="is another array"):
        optimizer.step(grads)
    params.clear()  # the caller's to do
    optimizer.step(grads)


@every_dtype
@pytest.mark.parametrize("way", ["in place", "handed", "function"])
def test_a_best_copy_that_is_restored(dtype: type, way: str) -> None:
    """The next step begins at the copy, in float16 too, and with the state of the steps so far."""
    w = np.linspace(-1, 1, 40).astype(dtype)
    g = np.full(40, 0.25, dtype)
    optimizer, state = nf.optim.Adam([w], lr=0.25), None
    for t in range(6):
        if t == 1:
            best = w.copy()
        if t == 5 and way == "in place":
            w[...] = best
        elif t == 5:
            w = best.copy()
        if way == "function":
            _, state = nf.optim.adam(w, g, state, lr=0.25)
        else:
            optimizer.step([g], params=[w] if way == "handed" else None)
    steps = nf.optim.Adam([np.zeros(40)], lr=0.25)
    for _ in range(5):
        steps.step([g.astype(np.float64)])
    before = steps.params[0].copy()
    steps.step([g.astype(np.float64)])
    expected = best.astype(np.float64) + steps.params[0] - before
    np.testing.assert_allclose(w, expected, rtol=0, atol=4 * np.finfo(dtype).eps)


# ---- several networks ----

SHAPES = [(3, 4), (4,)], [(5,)], [(2, 2), (2,), (2, 7)]


def networks() -> list[list[Array]]:
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(shape) for shape in shapes] for shapes in SHAPES]


def gradients(t: int) -> list[list[Array]]:
    rng = np.random.default_rng(t + 1)
    return [[rng.standard_normal(shape) for shape in shapes] for shapes in SHAPES]


@every_kind
@pytest.mark.parametrize("way", ["clone of params", "clone", "function"])
def test_three_networks_of_different_shapes(kind: str, way: str) -> None:
    settings = {"lr": 0.1, "weight_decay": 0.01}
    make, update = getattr(nf.optim, kind), getattr(nf.optim, kind.lower())
    expected, nets = networks(), networks()
    apart = [make(net, **settings) for net in expected]
    one = make(nets[0], **settings)
    clones = [one.clone(net) if way == "clone of params" else one.clone() for net in nets]
    states: list[Any] = [{} for _ in nets]
    for t in range(3):
        for i, grads in enumerate(gradients(t)):
            apart[i].step(grads)
            if way == "function":
                update(nets[i], grads, states[i], **settings)
            else:
                clones[i].step(grads, params=nets[i])
    for net, reference in zip(nets, expected, strict=True):
        assert_same(net, reference)


def test_one_optimizer_for_networks_of_different_shapes_is_an_error() -> None:
    nets = networks()
    optimizer = nf.optim.SGD(nets[0])
    for net, grads in zip(nets[1:], gradients(0)[1:], strict=True):
        kept = copies(net)
        with pytest.raises(ValueError, match="params"):
            optimizer.step(grads, params=net)
        assert_same(net, kept)


@every_kernel
def test_a_clone_has_the_settings_and_a_state_of_its_own(rule: Rule) -> None:
    options = {"ema_decay": 0.5, "clip_global_norm": 2.0, "maximize": True, "skip_nonfinite": True}
    optimizer = rule.optimizer(start(np.float32), **options)
    optimizer.lr = 0.25
    train(optimizer, range(3), np.float32)
    before = everything(optimizer)
    cloned, expected = (start(np.float32) for _ in range(2))
    fresh = rule.optimizer(expected, **{**options, "lr": 0.25})
    for clone in (optimizer.clone(cloned), copy.deepcopy(optimizer.clone())):
        assert (type(clone), clone.step_count) == (type(optimizer), 0)
        params = start(np.float32)
        clone.step(draw(np.float32, 0), params=params)
    train(fresh, range(1), np.float32)
    assert_same_arrays(everything(clone), everything(fresh))
    assert clone.state_dict()["settings"] == fresh.state_dict()["settings"]
    assert_same_arrays(everything(optimizer), before)
    clone.lr = 1.0
    assert optimizer.lr == 0.25


def test_clones_of_groups() -> None:
    w, b = np.ones(3), np.ones(2)
    groups = [{"params": {"w": w}, "lr": 1.0}, {"params": {"b": b}, "momentum": 0.5}]
    optimizer = nf.optim.SGD(groups, lr=0.25)
    optimizer.groups[0]["lr"] = 2.0
    grads = {"w": np.ones(4), "b": np.ones(5)}
    for clone in (optimizer.clone({"w": np.zeros(4), "b": np.zeros(5)}), optimizer.clone()):
        assert [dict(group) for group in clone.groups] == [{"lr": 2.0}, {"momentum": 0.5}]
        params = {"w": np.zeros(4), "b": np.zeros(5)}
        for _ in range(2):
            clone.step(grads, params=params)
        np.testing.assert_array_equal(params["w"], -4)
        np.testing.assert_array_equal(params["b"], -0.25 * 2.5)
        clone.groups[0]["lr"] = 7
    assert optimizer.groups[0]["lr"] == 2.0
    clone = optimizer.clone([{"params": {"v": np.zeros(2)}, "lr": 4.0}])
    clone.step({"v": np.ones(2)})
    np.testing.assert_array_equal(clone.params[0], -4)
    with pytest.raises(ValueError, match="params must have 2 arrays, as the groups of the optim"):
        optimizer.clone({"w": np.zeros(4)})


def test_a_clone_without_parameters_takes_those_of_its_first_step() -> None:
    clone = nf.optim.NAdam([np.ones(3)], lr=0.1).clone()
    assert (clone.params, clone.step_count) == ([], 0)
    with pytest.raises(ValueError, match="params must be given to the first step of a clone"):
        clone.step([])
    w = {"w": np.ones((2, 2))}
    for grads, params, message in (
        ({"w": np.ones(3)}, w, r"grads\['w'\] must have shape \(2, 2\)"),
        ({"w": np.ones((2, 2))}, {"w": frozen(np.ones((2, 2)))}, "must be writeable"),
    ):
        with pytest.raises(ValueError, match=message):
            clone.step(grads, params=params)
        assert (clone.params, clone.step_count, clone.state["exp_avg"]) == ([], 0, [])
    clone.lr = -1
    with pytest.raises(ValueError, match="lr must not be negative"):
        clone.step({"w": np.ones((2, 2))}, params=w)
    assert (w["w"] == 1).all()
    clone.lr = 0.2
    clone = pickle.loads(pickle.dumps(clone))
    clone.step({"w": np.ones((2, 2))}, params=w)
    expected = np.ones((2, 2))
    nf.optim.NAdam([expected], lr=0.2).step([np.ones((2, 2))])
    assert_same_bits(w["w"], expected)
    clone.step({"w": np.ones((2, 2))})
    assert clone.step_count == 2
    with pytest.raises(TypeError, match="params must be a sequence or mapping"):
        clone.clone(np.ones(3))


# ---- an optimizer that was pickled when there were fewer settings ----


def test_a_pickle_without_a_later_setting() -> None:
    optimizer = nf.optim.Adam([np.ones(3)])
    optimizer.step([np.ones(3)])
    state = pickle.loads(pickle.dumps(optimizer.__getstate__()))
    for settings in (state, *state["_checked"]):
        del settings["bias_correction"]
    old = object.__new__(nf.optim.Adam)
    old.__setstate__(state)
    for each in (old, optimizer):
        each.step([np.ones(3)])
    assert_same_arrays(everything(old), everything(optimizer))


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_a_scalar_in_place_of_a_parameter_is_seen(kind: Any) -> None:
    params = kind(w=np.ones(3), b=np.array(1.0))
    opt = nf.optim.SGD(params, lr=0.1)
    params["b"] = params["b"] - 1  # a NumPy scalar
    with pytest.raises(ValueError, match=r"params\['b'\] is another array than the one"):
        opt.step({"w": np.ones(3), "b": 1.0})
    params["note"] = lambda: 0
    pickle.dumps(opt)
