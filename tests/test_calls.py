"""What a call of a function of the compiled module does with its arguments, and what calls on small arrays cost."""

import copy
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from bench.timing import in_turn
from nnfast import _core
from nnfast.activations import ufuncs
from nnfast.normalization import BatchNormSaved
from nnfast.optim.clipping import Clip
from optim_rules import TABLE, Rule, label
from test_speed import assert_at_most

Array = NDArray[Any]
X = np.arange(12, dtype=np.float32).reshape(4, 3)

# ---- arguments ----


def functions() -> list[Callable[..., Any]]:
    """The functions that take their arguments by position, as the dispatcher of pybind11 has another type."""
    return [
        value
        for name, value in vars(_core).items()
        if type(value) is type(len) and value.__self__ is None and not name.startswith("__")
    ]


def test_functions_are_found() -> None:
    assert {_core.batch_norm, _core.dropout, _core.cross_entropy} <= set(functions())


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.__name__)
def test_a_wrong_number_of_arguments_is_an_error(function: Callable[..., Any]) -> None:
    if not function.__name__.startswith("make_"):
        with pytest.raises(TypeError, match=r"must have .* arguments, got 0"):
            function()
    with pytest.raises(TypeError, match="arguments, got 20"):
        function(*[None] * 20)
    with pytest.raises(TypeError, match="keyword"):
        function(x=X)


def test_arguments_of_another_type_are_errors() -> None:
    with pytest.raises(TypeError):
        _core.batch_norm_stats(X, "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _core.scale_by_channel(X, X, "1", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _core.checked_output(X, None, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _core.elastic_net((X,), 0.0, 0.0, None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _core.layer_norm_backward(X, X, None, X, X, 1, True, None, None, None)  # type: ignore[arg-type]
    with pytest.raises((TypeError, OverflowError)):
        _core.dropout_mask(3, 0.5, 1, 0, -1, None)


def test_an_integer_out_of_range_is_the_nearest_that_is_in_range() -> None:
    for axis in (10**30, -(10**30), 2**31, -(2**40)):
        with pytest.raises(ValueError, match="axis must be an axis of x"):
            nf.batch_norm(X, axis=axis)
        with pytest.raises(ValueError, match="axis must be an axis of x"):
            _core.batch_norm_stats(X, axis)


def test_a_trailing_argument_may_be_left_out() -> None:
    whole = _core.apply_mask(X, np.array([0b1011, 0b1], np.uint8), 2.0, None, "x", -0.0, 0.0, 1)
    assert np.array_equal(_core.apply_mask(X, np.array([0b1011, 0b1], np.uint8), 2.0, None), whole)


def test_functions_and_what_they_save_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(_core.batch_norm)) is _core.batch_norm
    _, saved = nf.batch_norm(X, axis=np.int64(-1), training=np.True_, activation="relu", add=X)
    assert type(saved) is BatchNormSaved
    assert [type(value) for value in saved[2:4]] == [int, bool]
    assert (saved.axis, saved.training, saved.add) == (-1, True, True)
    for again in (pickle.loads(pickle.dumps(saved)), copy.deepcopy(saved)):
        assert type(again) is BatchNormSaved
        assert all(map(np.array_equal, again, saved))


def test_what_is_saved_is_let_go_of() -> None:
    _, saved = nf.layer_norm(X)
    mean = saved.mean
    before = _references(mean)
    del saved
    assert _references(mean) == before - 1


def _references(value: object) -> int:
    return sys.getrefcount(value)


# ---- parameters ----

PARAMETERS = {
    "_leaky_relu": 1,
    "_elu": 1,
    "_hardtanh": 2,
    "_leaky_relu_backward": 1,
    "_hardtanh_backward": 2,
    "_softplus_backward": 2,
    "_threshold": 2,
    "_squareplus": 1,
}
DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int64, ">f4", np.longdouble]


def called(function: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result, or the error's kind, and the warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = function()
        except TypeError as error:
            result = type(error)
    return result, [str(warning.message) for warning in seen]


@given(
    st.sampled_from(sorted(PARAMETERS)),
    st.lists(st.sampled_from(DTYPES), min_size=2, max_size=2),
    st.lists(
        st.floats() | st.sampled_from([0.0, -0.0, 0.01, 1e300, -1e39, 3.4028236e38, 1e-320]),
        min_size=2,
        max_size=2,
    ),
    st.booleans(),
)
def test_a_parameter_is_what_numpy_makes_of_it(
    name: str, dtypes: list[Any], values: list[float], into: bool
) -> None:
    ufunc = ufuncs.UFUNCS[name]
    count = PARAMETERS[name]
    arrays = tuple(np.array([-3, -1, 0, 1, 2, 100], dtype) for dtype in dtypes[: ufunc.nin - count])
    params = tuple(values[:count])
    keywords = {"out": np.empty(6, np.float64)} if into else {}
    got, got_warnings = called(lambda: ufuncs.call(name, arrays, params, dict(keywords)))
    got = got.copy() if isinstance(got, np.ndarray) else got
    expected, expected_warnings = called(lambda: ufunc(*arrays, *params, **keywords))
    assert got_warnings == expected_warnings
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()
    else:
        assert got is expected


VIEWS: dict[str, Callable[[Array], Array]] = {
    "whole": lambda x: x[:120].reshape(12, 10),
    "columns": lambda x: x[:120].reshape(12, 10).T,
    "part": lambda x: x[:120].reshape(12, 10)[:, 1:],
    "backwards": lambda x: x[::-1],
    "none": lambda x: x[:0],
    "scalar": lambda x: x[0, ...],
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("into", ["new", "other", "itself", "neighbour"])
@pytest.mark.parametrize("name", ["_gelu", "_leaky_relu", "_hardtanh_backward"])
def test_a_call_that_goes_past_numpy_gives_what_numpys_does(
    name: str, into: str, view: str, dtype: type
) -> None:
    ufunc, params = ufuncs.UFUNCS[name], (-0.5, 0.5)
    params = params[: PARAMETERS.get(name, 0)]
    found = []
    for call in (
        lambda *a, **k: ufuncs.call(name, a, params, k),
        lambda *a, **k: ufunc(*a, *params, **k),
    ):
        memory = np.linspace(-3, 3, 121, dtype=dtype)
        x = VIEWS[view](memory[:120])
        arrays = [x] * (ufunc.nin - len(params))
        out = {
            "itself": x,
            "neighbour": VIEWS[view](memory[1:]),
            "other": np.empty_like(x),
            "new": None,
        }[into]
        result = call(*arrays) if out is None else call(*arrays, out=out)
        assert out is None or result is out
        found.append((type(result), result.dtype, result.shape, result.strides, result.tobytes()))
    assert found[0] == found[1]


def test_a_call_that_goes_past_numpy_refuses_what_numpy_refuses() -> None:
    x = np.ones(3, np.float32)
    fixed = np.empty(3, np.float32)
    fixed.flags.writeable = False
    for out in (fixed, np.empty(2, np.float32), np.empty(3, np.int32)):
        before = out.copy()
        with pytest.raises((ValueError, TypeError), match=r"read-only|broadcast|Cannot cast"):
            nf.leaky_relu(x, out=out)
        assert np.array_equal(out, before, equal_nan=True)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="_leaky_relu"):
        nf.leaky_relu(np.full(3, -1e30, np.float32), 1e30)


def test_a_dtype_that_is_asked_for_decides_on_the_parameters() -> None:
    x = np.full(3, -1, np.float32)
    wide = nf.leaky_relu(x, 0.1, dtype=np.float64)
    assert np.array_equal(wide, np.full(3, -0.1))
    assert np.array_equal(nf.leaky_relu(x, 0.1, out=np.empty(3)), x * np.float32(0.1))
    out = np.zeros(2, np.float32)
    nf.leaky_relu(x[:2], 0.1, out=out, where=[True, False])
    assert np.array_equal(out, [np.float32(-0.1), 0])


def test_a_foreign_out_gets_the_parameters_as_they_are() -> None:
    seen = []

    class Out(np.ndarray):
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
            seen.append(inputs[1:])
            return self

    out = np.empty(3, np.float32).view(Out)
    assert nf.hardtanh(np.zeros(3, np.float32), -0.5, 0.5, out=out) is out
    assert seen == [(-0.5, 0.5)]
    assert all(type(value) is float for value in seen[0])


# ---- optimizers ----


def test_settings_are_seen_at_the_next_step_however_they_changed() -> None:
    def optimizer(betas: Any) -> tuple[nf.optim.Adam, Array]:
        param = np.ones(3)
        return nf.optim.Adam([param], lr=0.1, betas=betas), param

    grads = [np.array([1.0, -2.0, 3.0])]
    expected, other = optimizer((0.5, 0.75))
    expected.step(grads)
    after = other.copy()
    changed, param = optimizer((0.9, 0.99))
    for betas in ((0.5, 0.75), [0.5, 0.75], (np.float32(0.5), np.float64(0.75))):
        changed, param = optimizer((0.9, 0.99))
        changed.betas = betas
        changed.step(grads)
        assert np.array_equal(param, after)
    mutable: Any = [0.9, 0.99]
    changed, param = optimizer((0.9, 0.99))
    changed.betas = mutable
    changed.step([np.zeros(3)])
    mutable[0] = 2.0
    with pytest.raises(ValueError, match=r"betas\[0\] must be in \[0, 1\), got 2.0"):
        changed.step(grads)
    changed, param = optimizer((0.9, 0.99))
    changed = pickle.loads(pickle.dumps(changed))
    changed.betas = (0.5, 0.75)
    changed.step(grads)
    assert np.array_equal(changed.params[0], after)


def test_an_exact_tuple_of_betas_is_kept_and_another_is_made_anew() -> None:
    for betas in ((0.5, 0.75), (np.float64(0.5), 0.75), (0, 0.75)):
        made = nf.optim.Adam([np.ones(2)], betas=betas).betas
        assert [type(beta) for beta in made] == [float, float]
        assert made == betas


@pytest.mark.parametrize("rule", TABLE, ids=label)
def test_a_step_by_a_list_is_a_step_by_a_tuple(rule: Rule) -> None:
    # A list of arrays takes the short way where there is one, a tuple never.
    start = np.linspace(-1, 1, 7, dtype=np.float32)
    short, long = [start.copy()], [start.copy()]
    one, other = rule.optimizer(short), rule.optimizer(long)
    for t in range(3):
        grad = np.cos(np.arange(7, dtype=np.float32) + t)
        one.step([grad])
        other.step((grad,))
    assert short[0].tobytes() == long[0].tobytes()
    assert one.step_count == other.step_count == 3
    assert not np.array_equal(short[0], start)


def test_what_is_no_plain_step_is_not_taken_for_one() -> None:
    grads = [np.ones(2)]

    def taken(
        change: Callable[[Any], Any] = lambda opt: None, grads: Any = grads, scale: Any = 1.0
    ) -> bool:
        opt = nf.optim.Adam([np.ones(2)])
        change(opt)
        before = opt.params[0].copy()
        taken = opt._core.plain_step(vars(opt), grads, opt._row, scale)
        assert taken is (opt.step_count == 1) is not np.array_equal(before, opt.params[0])
        return taken

    assert taken()
    assert taken(lambda opt: setattr(opt, "lr", 0.5))
    assert taken(lambda opt: setattr(opt, "_clip_limit", 0.5))
    for name, value in (
        ("lr", 1),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("eps", 0.5),
        ("betas", [0.9, 0.999]),
        ("skip_nonfinite", True),
        ("_special", True),
        ("_clip_kind", int(Clip.ADAPTIVE)),
        ("ema", [np.ones(2)]),
        ("params", (np.ones(2),)),
        ("_given", ([np.ones(2)], [np.ones(2)])),
    ):
        assert not taken(lambda opt, name=name, value=value: setattr(opt, name, value))
    for other in ((np.ones(2),), [None], [[1.0, 2.0]], [np.ones(2).view(np.matrix)], {"a": grads}):
        assert not taken(grads=other)
    assert taken(scale=0.5)
    for scale in (1, 0.0, -1.0, float("inf"), float("nan"), "x", None, np.float64(2.0)):
        assert not taken(scale=scale)


def test_an_error_of_a_plain_step_changes_nothing() -> None:
    opt = nf.optim.SGD([np.ones(2)], lr=0.1)
    with pytest.raises(TypeError, match=r"grads\[0\] must have dtype float64, got float32"):
        opt.step([np.ones(2, np.float32)])
    with pytest.raises(ValueError, match="grads must have one array for each of the 1 parameters"):
        opt.step([np.ones(2)] * 2)
    assert opt.step_count == 0
    assert np.array_equal(opt.params[0], np.ones(2))
    opt.lr = -1.0
    with pytest.raises(ValueError, match="lr must not be negative"):
        opt.step([np.ones(2)])


# ---- what calls cost ----


def costs(call: Callable[[], object], most: float) -> None:
    """Not more than so many calls of np.negative, all on 100 float32 elements."""
    x = np.ones(100, np.float32)

    def ratio() -> float:
        ours, numpys = in_turn([call, lambda: np.negative(x)], rounds=40, number=300)
        return ours / numpys

    assert_at_most(ratio, most)


def step_of(rule: Callable[..., Any]) -> Callable[[], object]:
    opt, grads = rule([np.ones(100, np.float32)]), [np.full(100, 0.5, np.float32)]
    return lambda: opt.step(grads)


@pytest.mark.alone
def test_calls_on_small_arrays_cost_a_few_of_numpys() -> None:
    x, labels = np.ones((10, 10), np.float32), np.arange(10)
    gamma = np.ones(10, np.float32)
    images = np.ones((2, 5, 5, 2), np.float32)
    costs(lambda: nf.leaky_relu(x), 2.4)
    costs(lambda: nf.hardtanh(x), 2.4)
    costs(lambda: nf.gelu(x), 2.6)
    costs(lambda: nf.softmax(x), 4)
    costs(lambda: nf.dropout2d(images, rng=1), 7)
    costs(lambda: nf.batch_norm(x, gamma, gamma, training=True), 6.5)
    costs(lambda: nf.layer_norm(x, gamma, gamma), 6)
    costs(lambda: nf.dropout(x, rng=1), 3.7)
    costs(lambda: nf.softmax_cross_entropy(x, labels), 3.8)
    costs(step_of(nf.optim.SGD), 4.5)
    costs(step_of(nf.optim.Adam), 6.5)
