"""Rules as functions: the bits of their classes, out=, states that are saved, and errors that change nothing."""

import copy
import inspect
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from optim_rules import (
    Array,
    Rule,
    assert_same_arrays,
    copies,
    draw,
    every_dtype,
    every_kernel,
    every_kind,
    every_rule,
    start,
)

NAMES = list("abcde")


def function_of(rule: Rule, **options: Any) -> Any:
    function = getattr(nf.optim, rule.kind.lower())
    return partial(function, **{"convention": rule.convention, **rule.settings, **options})


def named(arrays: list[Array]) -> dict[str, Array]:
    return dict(zip(NAMES, arrays, strict=True))


def arrays_of(state: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in state.items()}


def state_of(optimizer: Any) -> dict[str, Array]:
    """What the function's state is to be."""
    found = optimizer.state_dict()
    if "mu_product" in found:
        found["mu_product"] = found["mu_product"][0]
    return {name: a for name, a in found.items() if name not in LEFT_OUT}


LEFT_OUT = {"optimizer", "settings", "skipped_count"}


def as_kept(state: Any) -> Any:
    """A copy to compare with later."""
    return copy.deepcopy(state)


# ---- the bits of the class ----


@every_rule
@every_dtype
def test_a_function_has_the_bits_of_its_class(rule: Rule, dtype: type) -> None:
    update, optimizer = function_of(rule), rule.optimizer(start(dtype))
    params, by_name, apart = start(dtype), named(start(dtype)), start(dtype)
    of_list = of_dict = None
    of_each: list[Any] = [None] * len(apart)
    for t in range(4):
        grads = draw(dtype, t)
        optimizer.step(grads)
        result, of_list = update(params, grads, of_list)
        assert result is params
        _, of_dict = update(by_name, named(grads), of_dict)
        of_each = [update(w, g, s)[1] for w, g, s in zip(apart, grads, of_each, strict=True)]
    for found in (params, list(by_name.values()), apart):
        for w, expected in zip(found, optimizer.params, strict=True):
            assert_same_bits(w, expected)
    assert_same_arrays(arrays_of(of_list), state_of(optimizer))
    assert of_dict.keys() == renamed(of_list)
    assert type(of_list["step_count"]) is int
    one = {name.partition(".")[0] for name in of_list}
    assert [state.keys() for state in of_each] == [one] * len(apart)


def renamed(state: dict[str, Any]) -> set[str]:
    """The keys, with the names of NAMES for positions."""
    parts = (name.partition(".") for name in state)
    return {f"{a}.{NAMES[int(i)]}" if i else a for a, _, i in parts}


@every_kernel
@every_dtype
def test_out_leaves_w_as_it_is(rule: Rule, dtype: type) -> None:
    """ "Save W, update, use the old W", by two sets of arrays in turn."""
    update, expected = function_of(rule), start(dtype)
    first, second = start(dtype), [np.full_like(p, 7) for p in expected]
    state = expected_state = None
    for t in range(4):
        before = copies(first)
        _, expected_state = update(expected, draw(dtype, t), expected_state)
        out, state = update(tuple(first), draw(dtype, t), state, out=second)
        assert out is second
        for w, kept in zip(first, before, strict=True):
            assert_same_bits(w, kept)
        first, second = second, first
    for w, e in zip(first, expected, strict=True):
        assert_same_bits(w, e)
    assert_same_arrays(arrays_of(state), arrays_of(expected_state))


def test_out_may_be_w_and_w_anything_that_is_read() -> None:
    expected, g = np.ones(3), np.arange(3.0)
    nf.optim.adam(expected, g)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    for w in (np.ones(3), frozen, [1.0, 1, 1], np.broadcast_to(1.0, 3)):
        out = w if isinstance(w, np.ndarray) and w.flags.writeable else np.zeros(3)
        if isinstance(w, list):  # a list is a list of arrays
            with pytest.raises(TypeError, match="dw must be a sequence or mapping of arrays"):
                nf.optim.adam(w, g, out=out)
            continue
        assert nf.optim.adam(w, g, out=out)[0] is out
        assert_same_bits(out, expected)
    for number in (1.0, 1, np.float32(1), np.ones((), np.float32)):
        out = np.zeros((), np.float32)
        nf.optim.sgd(number, 0.5, lr=1.0, out=out)
        assert out == 0.5
    view = np.ones(3)
    nf.optim.sgd(view[:], g, lr=1.0, out=view)  # the same elements
    assert_same_bits(view, 1 - g)


@every_kind
def test_bits_do_not_depend_on_threads_or_the_layout(kind: str) -> None:
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, 9, 37)).astype(np.float32)
    update = getattr(nf.optim, kind.lower())
    expected, kept = w.copy(), None
    for _ in range(2):
        _, kept = update(expected, g, kept)
    for name in layouts(w):
        for threads in (1, 3):
            made, state = layouts(w)[name], None
            with forced(threads=threads, grain=1):
                for _ in range(2):
                    out = layouts(np.zeros_like(w))[name]
                    made, state = update(made, layouts(g)[name], state, out=out)
            assert_same_bits(made, expected)
            assert_same_arrays(arrays_of(state), arrays_of(kept))


def test_settings_and_options_are_those_of_the_class() -> None:
    def run(step: Any) -> None:
        for t in range(3):
            step([draw(np.float64, t)[0]], 0.1 / (t + 1))

    for options in (
        {"clip_norm": 0.1, "maximize": True},
        {"clip_value": 0.1, "betas": [0.5, 0.6]},  # a list has no hash
        {"clip_global_norm": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True},
        {"eps": np.float32(0.5), "amsgrad": True, "bias_correction": False, "convention": "keras"},
    ):
        w, expected = start(np.float64)[:1], start(np.float64)[:1]
        optimizer, state = nf.optim.Adam(expected, **options), {}

        def by_class(grads: Any, lr: float, optimizer: Any = optimizer) -> None:
            optimizer.lr = lr
            optimizer.step(grads)

        run(by_class)
        run(lambda g, lr, w=w, s=state, o=options: nf.optim.adam(w, g, s, lr=lr, **o))
        assert_same_bits(w[0], expected[0])
        assert state["step_count"] == 3  # an empty dict is filled


@every_kind
def test_signatures_are_complete(kind: str) -> None:
    rule, function = getattr(nf.optim, kind), getattr(nf.optim, kind.lower())
    parameters = inspect.signature(function).parameters
    needs_an_object = {"skip_nonfinite", "ema_decay", "ema_bias_correction"}
    needs_an_object |= {"ema_overwrite_frequency", "clip_adaptive", "clip_adaptive_eps"}
    needs_an_object |= {"state_dtype", "rounding_seed"}
    options = set(nf.optim.settings.Options.__annotations__) - needs_an_object
    own = set(inspect.signature(rule).parameters) - {"params", "options"}
    assert parameters.keys() == {"w", "dw", "state", "out"} | own | options
    assert {*rule.defaults["torch"]} <= parameters.keys()
    text = inspect.getdoc(function)
    assert [
        name for name in parameters if f"\n{name}" not in text and f", {name}" not in text
    ] == []
    assert pickle.loads(pickle.dumps(function)) is function
    with pytest.raises(TypeError, match=f"{kind.lower()} has no argument 'speed'"):
        function(np.ones(3), np.ones(3), speed=1)
    with pytest.raises(TypeError, match="has no argument 'skip_nonfinite'"):
        function(np.ones(3), np.ones(3), skip_nonfinite=True)


def test_many_settings_and_many_names_are_not_kept_for_ever() -> None:
    cells = inspect.getclosurevars(nf.optim.adam).nonlocals
    for i in range(200):
        nf.optim.adam({f"w{i}": np.ones(2)}, {f"w{i}": np.ones(2)}, eps=1e-8 * (1 + i))
    assert len(cells["known"]) <= 64


# ---- states ----


def by_file(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    np.savez(folder / "state.npz", **state)
    with np.load(folder / "state.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("kind", ["SGD", "Adagrad", "Adam", "NAdam"])
@pytest.mark.parametrize(
    "way",
    [
        by_file,
        lambda state, folder: pickle.loads(pickle.dumps(state)),
        lambda state, folder: copy.deepcopy(state),
    ],
)
def test_a_saved_state_goes_on_with_the_same_bits(kind: str, way: Any, tmp_path: Path) -> None:
    options = {"momentum": 0.9} if kind == "SGD" else {}
    update = partial(getattr(nf.optim, kind.lower()), lr=0.1, **options)
    for dtype in (np.float16, np.float32):
        for make in (lambda arrays: arrays, named, lambda arrays: arrays[0]):
            w, expected, state, kept = make(start(dtype)), make(start(dtype)), None, None
            for t in range(4):
                if t == 2:
                    state = way(state, tmp_path)
                grads = make(draw(dtype, t))
                _, kept = update(expected, grads, kept)
                _, after = update(w, grads, state)
                assert state is None or after is state
                state = after
            assert_same_arrays(arrays_of(state), arrays_of(kept))


def test_every_rule_is_a_function() -> None:
    assert nf.optim.functions.__all__ == sorted(name.lower() for name in nf.optim.rules.__all__)


def test_a_state_is_a_plain_dict() -> None:
    for state in (
        nf.optim.sgd(np.ones(3), np.ones(3))[1],
        nf.optim.nadam({"w": np.ones(3, np.float16)}, {"w": np.ones(3, np.float16)})[1],
    ):
        assert type(state) is dict
        assert {type(value) for value in state.values()} <= {int, float, np.ndarray}
    assert list(state) == ["step_count", "mu_product", "exp_avg.w", "exp_avg_sq.w", "master.w"]


# ---- float16 ----


@every_kernel
def test_a_float16_master_takes_what_was_written_to_its_parameter(isa: str, rule: Rule) -> None:
    """Elements that are still the rounded master keep its digits; the others begin anew."""
    written = np.array([-0.0, 65000, 6e-8, 1.5, -3, 0], np.float16)
    for how in ("in place", "handed", "function"):
        w = np.linspace(-1, 1, 4100).astype(np.float16)
        g = np.full(4100, 1e-3, np.float16)
        optimizer, update, state = rule.optimizer([w]), function_of(rule), None
        step = optimizer.step if how != "function" else None
        for _ in range(3):
            if step:
                step([g])
            else:
                _, state = update(w, g, state)
        master = optimizer._master[0] if step else state["master"]
        wide, kept = master.copy(), w.copy()
        assert_same_bits(w, master.astype(np.float16))
        w[5:4100:700] = written
        expected = np.where(w.view(np.uint16) == kept.view(np.uint16), wide, w.astype(np.float32))
        reference = rule.optimizer([expected])
        if step:
            reference.load_state_dict(without_master(optimizer.state_dict()))
        else:
            rebuilt = {f"{n}.0" if isinstance(a, np.ndarray) else n: a for n, a in state.items()}
            reference.step_count = state["step_count"]
            for name, arrays in reference.state.items():
                arrays[0][...] = rebuilt[f"{name}.0"]
            if "mu_product" in state:
                reference._carried = [state["mu_product"]]
        reference.step([g.astype(np.float32)])
        if how == "in place":
            optimizer.step([g])
        elif how == "handed":
            w = w.copy()
            optimizer.step([g], params=[w])
        else:
            update(w, g, state)
        assert_same_bits(master, expected)
        assert_same_bits(w, expected.astype(np.float16))


def without_master(state: dict[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in state.items() if not name.startswith("master")}


@pytest.mark.parametrize("way", ["[:]", "[::2]", "[::-1]"])
def test_masters_of_views(way: str) -> None:
    memory = np.ones(60, np.float16)
    w = eval(f"memory{way}")
    optimizer = nf.optim.SGD([w], lr=1.0, clip_global_norm=1e9)
    optimizer.step([np.full(w.shape, 2.0**-14, np.float16)])
    assert_same_bits(memory, np.ones(60, np.float16))  # too little to be seen, but kept
    w[7] = 5
    optimizer.step([np.full(w.shape, 2.0**-14, np.float16)])
    expected = np.full(w.shape, 1 - 2.0**-13, np.float32)
    expected[7] = 5 - 2.0**-14
    assert_same_bits(optimizer._master[0], expected)


def test_a_skipped_step_leaves_float16_parameters_and_masters_alone() -> None:
    w = np.ones(3, np.float16)
    optimizer = nf.optim.SGD([w], lr=2.0**-12, skip_nonfinite=True, clip_norm=5.0)
    optimizer.step([np.ones(3, np.float16)])
    master, w[1] = optimizer._master[0].copy(), 3
    optimizer.step([np.array([1, np.nan, 1], np.float16)])
    assert_same_bits(w, np.array([1, 3, 1], np.float16))
    assert_same_bits(optimizer._master[0], master)


def test_the_average_of_a_float16_parameter_without_gradient_takes_what_was_written() -> None:
    w = np.ones(3, np.float16)
    optimizer = nf.optim.SGD([w], lr=2.0**-12, ema_decay=0.5, ema_bias_correction=False)
    optimizer.step([np.ones(3, np.float16)])
    w[1] = 3
    optimizer.step([None])
    once = 1 - 2.0**-12
    np.testing.assert_array_equal(optimizer._master[0], [once, 3, once])
    np.testing.assert_allclose(optimizer.ema[0], (1 - 2.0**-13 + np.array([once, 3, once])) / 2)


# ---- errors ----

HALF = np.ones(3, np.float16)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def test_errors_change_neither_w_nor_the_state() -> None:
    w, g = np.ones(3), np.ones(3)
    memory = np.ones(8)
    many = {"a": np.ones(3), "b": np.ones(2)}
    dmany = {"a": np.ones(3), "b": np.ones(2)}
    of_one, of_many = nf.optim.adam(w, g)[1], nf.optim.adam(many, dmany)[1]
    of_half = nf.optim.adam(HALF.copy(), HALF)[1]
    cases: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((1.0, 1.0), {}, TypeError, "w must be a numpy.ndarray, got float"),
        ((np.float32(1), 1.0), {}, TypeError, "w must be a numpy.ndarray, got float32"),
        ((1.0, 1.0, of_one), {}, TypeError, "w must be a numpy.ndarray, got float"),
        ((frozen(np.ones(3)), g), {}, ValueError, "w must be writeable, but is read-only"),
        ((frozen(np.ones(3)), g, of_one), {}, ValueError, "w must be writeable"),
        (
            (np.ones(3, int), g),
            {},
            TypeError,
            "w must have dtype float16, bfloat16, float32 or float64",
        ),
        (([w, 2.0], [g, g]), {}, TypeError, r"w\[1\] must be a numpy.ndarray, got float"),
        (({"a": w, "b": 2.0}, dmany), {}, TypeError, r"w\['b'\] must be a numpy.ndarray"),
        ((w, np.ones(4), of_one), {}, ValueError, r"dw must have shape \(3,\), got \(4,\)"),
        ((w, np.ones(3, "f"), of_one), {}, TypeError, "dw must have dtype float64, got float32"),
        ((w, w, of_one), {}, ValueError, "dw and w must not share memory"),
        ((w, of_one["exp_avg"], of_one), {}, ValueError, r"dw and state\['exp_avg'\] must not"),
        ((many, [g], of_many), {}, TypeError, "dw must be a mapping, as w were, got list"),
        ((many, {"a": g}, of_many), {}, ValueError, "dw must have the names of w, but lacks 'b'"),
        (([w], [g, g]), {}, ValueError, "dw must have one array for each of the 1 parameters, got"),
        ((many, {**dmany, "b": g}, of_many), {}, ValueError, r"dw\['b'\] must have shape \(2,\)"),
        ((w, g, of_many), {}, ValueError, "state must have 'exp_avg'"),
        ((w, g, {"step_count": 1}), {}, ValueError, "state must have 'exp_avg'"),
        ((w, g, of_one | {"more": 1}), {}, ValueError, "state must be of Adam .* has 'more'"),
        ((w, g, of_one), {"amsgrad": True}, ValueError, "state must have 'max_exp_avg_sq'"),
        ((w, g, of_one | {"step_count": -1}), {}, ValueError, r"state\['step_count'\] must not be"),
        ((w, g, of_one | {"step_count": 1.5}), {}, TypeError, r"state\['step_count'\] must be an"),
        ((w, g, of_one | {"exp_avg": 3}), {}, TypeError, r"state\['exp_avg'\] must be a numpy.nda"),
        (
            (many, dmany, of_many | {"exp_avg_sq.b": np.ones(3)}),
            {},
            ValueError,
            r"state\['exp_avg_sq.b'\] must have shape \(2,\), got \(3,\)",
        ),
        ((w, g, of_one | {"exp_avg": w}), {}, ValueError, r"w and state\['exp_avg'\] must not"),
        ((np.ones(4), np.ones(4), of_one), {}, ValueError, r"state\['exp_avg'\] must have shape"),
        (
            (w.astype("f"), g.astype("f"), of_one),
            {},
            TypeError,
            r"state\['exp_avg'\] must have dty",
        ),
        ((HALF.copy(), HALF, of_one), {}, TypeError, "w must not become float16 after its state"),
        (
            (HALF.copy(), HALF, of_half | {"master": w}),
            {},
            TypeError,
            r"'master'\] must",
        ),
        ((w, g, [1]), {}, TypeError, "state must be a dict, got list"),
        ((w, g, of_one), {"lr": -1}, ValueError, "lr must not be negative, got -1.0"),
        ((w, g, of_one), {"lr": "x"}, TypeError, "lr must be a real number"),
        ((w, g, of_one), {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] must be in \[0, 1\)"),
        ((w, g, of_one), {"convention": "jax"}, ValueError, "convention must be 'torch'"),
        ((w, g, of_one), {"clip_norm": 1, "clip_value": 1}, ValueError, "exclude each other"),
        ((w, g, of_one), {"out": np.zeros(4)}, ValueError, r"'exp_avg'\] must have shape \(4,\)"),
        ((w, g), {"out": np.zeros(4)}, ValueError, r"w must have shape \(4,\), got \(3,\)"),
        ((w, g), {"out": np.zeros(3, "f")}, TypeError, "w must have dtype float32, got float64"),
        ((w, g), {"out": 1.0}, TypeError, "out must be a numpy.ndarray, got float"),
        ((w, g, of_one), {"out": frozen(np.ones(3))}, ValueError, "out must be writeable"),
        ((memory[:3], g), {"out": memory[2:5]}, ValueError, "w and out must not share memory"),
        ((w, g), {"out": g}, ValueError, "dw and out must not share memory"),
        ((of_one["exp_avg"], g, of_one), {"out": np.ones(3)}, ValueError, r"w and state\['exp_av"),
        (([w, w], [g, g]), {}, ValueError, r"w\[0\] and w\[1\] must not share memory"),
        (([w], [g]), {"out": []}, ValueError, "out must have as many arrays as w, 1, got 0"),
        (([w], [g]), {"out": w}, TypeError, "out must be a sequence or mapping of arrays"),
        ((many, dmany), {"out": [w]}, TypeError, "out must be a mapping, as w were, got list"),
        (({1: w, "1": np.ones(3)}, {1: g, "1": g}), {}, ValueError, "w must have names that diff"),
    ]
    for arguments, settings, error, message in cases:
        before = as_kept((arguments, settings))
        with pytest.raises(error, match=message):
            nf.optim.adam(*arguments, **settings)
        assert repr((arguments, settings)) == repr(before), message
    state: dict[str, Any] = {}
    with pytest.raises(ValueError, match="dw must have shape"):
        nf.optim.adam(w, np.ones(4), state)
    assert state == {}
    copied = nf.nn.Sequential(nf.nn.Dense(2, 2)).state_dict()
    with pytest.raises(ValueError, match="w must be the arrays of the network themselves"):
        nf.optim.sgd(copied, copied)
    with pytest.raises(TypeError, match="w must be an array without a mask"):
        nf.optim.sgd(np.ma.masked_less(np.ones(3), 0), g)


@pytest.mark.parametrize("value", [1.5, -0.1, "x", None])
def test_a_product_that_is_none(value: Any) -> None:
    w, state = np.ones(3), nf.optim.nadam(np.ones(3), np.ones(3))[1]
    state["mu_product"] = value
    with pytest.raises((TypeError, ValueError), match=r"state\['mu_product'\] must be"):
        nf.optim.nadam(w, np.ones(3), state)
    assert_same_bits(w, np.ones(3))
    del state["mu_product"]
    with pytest.raises(ValueError, match="state must have 'mu_product'"):
        nf.optim.nadam(w, np.ones(3), state)


def test_a_state_of_another_rule() -> None:
    w, g = np.ones(3), np.ones(3)
    states = {kind: getattr(nf.optim, kind.lower())(w, g)[1] for kind in ("SGD", "Adam", "NAdam")}
    for kind, state in states.items():
        for other in states.keys() - {kind}:
            before = w.copy()
            with pytest.raises(ValueError, match="state must"):
                getattr(nf.optim, other.lower())(w, g, state)
            assert_same_bits(w, before)


def test_a_memoryview_is_no_sequence_of_arrays() -> None:
    view = memoryview(np.ones((2, 2)))
    for call in (lambda: nf.optim.adam(view, view), lambda: nf.optim.Adam(view)):
        with pytest.raises(TypeError, match="must be a sequence or mapping of arrays, got memoryv"):
            call()


def test_nothing_to_update() -> None:
    for nothing in ([], {}, ()):
        assert nf.optim.adam(nothing, nothing) == (nothing, {"step_count": 1})
    empty = np.zeros((0, 3))
    assert nf.optim.adam(empty, empty.copy())[0] is empty


def test_masters_belong_to_float16_parameters() -> None:
    h, w = np.ones(2, np.float16), np.full(2, 5, np.float32)
    _, state = nf.optim.adam(h, h.copy())
    with pytest.raises(ValueError, match="state must not have 'master' for a parameter of float32"):
        nf.optim.adam(w, w, state)
    both = [h.copy(), h.copy()]
    _, state = nf.optim.adam(both, [h.copy(), h.copy()])
    del state["master.1"]
    with pytest.raises(ValueError, match="state must have 'master.1' for a parameter of float16"):
        nf.optim.adam(both, both, state)
    assert (w == 5).all()


def test_names_in_a_state_are_those_of_the_keys() -> None:
    w = np.ones(2)
    for key in (1, 1.0, True, "1"):
        assert f"exp_avg.{key}" in nf.optim.adam({key: w.copy()}, {key: w})[1]


def test_a_setting_that_changes_is_read_at_every_step() -> None:
    class Decay:
        value = 0.1

        def __float__(self) -> float:
            return self.value

    decay, w = Decay(), np.ones(1)
    for value in (0.1, 0.5):
        decay.value = value
        after, _ = nf.optim.adam(
            w.copy(), 0 * w, lr=1.0, weight_decay=decay, decoupled_weight_decay=True
        )
        assert after == 1 - value
        _, state = nf.optim.adam(w.copy(), w, betas=(decay, 0.5))
        assert state["exp_avg"] == 1 - value


class Key(str):
    def __str__(self) -> str:
        return f"Key.{self[:]}"


@pytest.mark.parametrize("keys", [("w", 1), ("w", True), (Key("w"), Key("b")), ("w", "b")])
def test_a_state_is_called_by_the_keys_as_text(keys: tuple[Any, Any]) -> None:
    """Whatever equal keys an earlier call had."""
    for _ in range(2):
        w = {key: np.ones(2) for key in keys}
        w, state = nf.optim.sgd(w, {key: np.ones(2) for key in reversed(keys)}, lr=1, momentum=0.5)
        assert state.keys() == {"step_count", *(f"momentum_buffer.{key!s}" for key in keys)}
        assert all((value == 0).all() for value in w.values())


def test_gradients_by_name_may_come_in_any_order() -> None:
    w, dw = {"a": np.zeros(1), "b": np.zeros(1)}, {"b": np.ones(1), "a": np.full(1, 2.0)}
    nf.optim.sgd(w, dw, lr=1)
    assert (w["a"], w["b"]) == (-2, -1)
    nf.optim.SGD(w, lr=1).step(dw)
    assert (w["a"], w["b"]) == (-4, -2)
