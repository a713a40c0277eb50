"""Arrays of ml_dtypes.bfloat16: the results of float32, rounded once, wherever float16 gives float16."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import ml_dtypes
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import nnfast as nf
from array_kinds import ALONG, KEEPING, POSITIONAL, READING
from nnfast._testing import forced
from nnfast.normalization import BatchNormStats

bfloat16: Any = ml_dtypes.bfloat16

Array = NDArray[Any]

ALL = KEEPING | ALONG | POSITIONAL | READING
CALLS = {name: call for name, call in ALL.items() if "." not in name}  # without those of modules
# y is rounded before its gradient is, as of float16.
ROUNDING_TWICE = {"derivative"}
# Probabilities as labels are told from class indices by NumPy's own dtypes; NumPy's numbers alone are images.
REFUSED = {
    "softmax_cross_entropy of probabilities",
    *(name for name in ALL if name.startswith("augmentation.")),
}
GRADIENTS_OF_Y = ("logsigmoid", "softplus", "softsign", "hardsigmoid")


def narrow(value: Any, dtype: Any = bfloat16) -> Any:
    """A float32 array in 16 bits; the rest as it is."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value.astype(dtype)
    return value


def wide(value: Any) -> Any:
    return value.astype(np.float32) if getattr(value, "dtype", None) == bfloat16 else value


def parts(value: Any) -> list[Any]:
    if isinstance(value, BatchNormStats):
        value = value.count, value.mean, value.m2
    if isinstance(value, tuple | list):
        return [part for each in value for part in parts(each)]
    return [value]


def same(got: Any, expected: Any) -> bool:
    """Whether these are the same bits; any NaN is as good as another."""
    if not isinstance(expected, np.ndarray | np.generic):
        return bool(np.all(got == expected))
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    nan = np.isnan(expected) if expected.dtype.kind in "fV" else np.zeros(expected.shape, bool)
    a, b = (np.where(nan, 0, x.astype(np.float64)) for x in (got, expected))
    return bool(np.array_equal(a, b) and np.array_equal(np.signbit(a), np.signbit(b)))


def rounded(value: Any, of_float16: Any) -> Any:
    """A float32 result in bfloat16, where that of float16 is float16."""
    is_16_bits = getattr(of_float16, "dtype", None) == np.float16
    return np.asarray(value).astype(bfloat16)[()] if is_16_bits else value


def numbers(*shape: int, seed: int = 0) -> Array:
    x: Array = np.random.default_rng(seed).standard_normal(shape).astype(bfloat16)
    return x


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str) -> None:
    with pytest.raises(TypeError, match="bfloat16"):
        ALL[name](**{key: narrow(array) for key, array in ALL[name].arrays.items()})


@pytest.mark.parametrize("name", sorted(CALLS.keys() - REFUSED))
def test_results_are_those_of_float32_rounded(name: str) -> None:
    call = CALLS[name]
    given = {key: narrow(array) for key, array in call.arrays.items()}
    got = parts(call(**given))
    if name in ROUNDING_TWICE:
        one = np.ones((), bfloat16)
        assert same(got[0], nf.tanh_backward(one, nf.tanh(given["x"])))
        return
    expected = parts(call(**{key: wide(array) for key, array in given.items()}))
    float16 = parts(call(**{k: narrow(array, np.float16) for k, array in call.arrays.items()}))
    assert len(got) == len(expected)
    for a, b, of_float16 in zip(got, expected, float16, strict=True):
        assert same(a, rounded(b, of_float16)), (a, b)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -9.2e-41, 3.3e38, -3.3e38, 1.0, -2.5]
)


@pytest.mark.parametrize("name", sorted(KEEPING.keys() - ROUNDING_TWICE))
def test_elementwise_of_any_layout(name: str) -> None:
    call = KEEPING[name]
    n = len(call.arrays)
    x = np.concatenate([numbers(3000), SPECIAL.astype(bfloat16)])
    arrays = [np.roll(x, k) for k in range(n)]
    with np.errstate(all="ignore"):
        expected = np.asarray(call.function(*map(wide, arrays))).astype(bfloat16)
        assert same(call.function(*arrays), expected)
        for some in (np.s_[::2], np.s_[::-1], np.s_[:1], np.s_[:0], np.s_[1:514]):
            assert same(call.function(*(a[some] for a in arrays)), expected[some])
        spread = np.zeros((len(x), 3), bfloat16)
        spread[:, 1] = x
        assert same(call.function(*(np.roll(spread, k, 0)[:, 1] for k in range(n))), expected)
        scalar = call.function(*(a[7] for a in arrays))
        assert scalar.dtype == bfloat16
        assert same(np.asarray(scalar), np.asarray(expected[7]))


def test_every_bfloat16_number() -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(bfloat16)
    with np.errstate(all="ignore"):
        y = nf.relu(x)
        assert same(y, np.maximum(x.astype(np.float32), 0).astype(bfloat16))
        # NaN stays NaN, subnormals are kept.
        assert np.array_equal(np.isnan(y), np.isnan(x))
        z = nf.gelu(x)
        assert same(z, nf.gelu(x.astype(np.float32)).astype(bfloat16))


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu"])
def test_elementwise_into_out_and_in_place(name: str) -> None:
    f, x = getattr(nf, name), numbers(1234)
    expected = f(wide(x)).astype(bfloat16)
    out = np.zeros_like(x)
    assert f(x, out=out) is out
    assert same(out, expected)
    mixed = np.zeros(1234, np.float32)
    f(x, out=mixed)
    assert same(mixed, wide(expected))
    y = x.copy()
    f(y, out=y)
    assert same(y, expected)
    y = np.concatenate([x, x[:7]])
    f(y[:-7], out=y[7:])  # NumPy sees the overlap
    assert same(y[7:], expected)
    where = np.arange(1234) % 3 == 0
    y = x.copy()
    f(x, out=y, where=where)
    assert same(y, np.where(where, wide(expected), wide(x)).astype(bfloat16))


def test_threads_change_no_bit() -> None:
    x, dy = numbers(300, 1001), numbers(300, 1001, seed=1)
    calls = [
        lambda: nf.gelu(x),
        lambda: nf.gelu_backward(dy, x),
        lambda: nf.softmax(x),
        lambda: nf.bias_gelu(x, x[0]),
        lambda: nf.layer_norm(x)[0],
        lambda: nf.dropout(x, rng=0)[0],
    ]
    for call in calls:
        with nf.num_threads(1):
            one = call()
        with forced(threads=7, grain=1):
            assert same(call(), one)


def test_promotion_is_that_of_float16_with_other_arrays() -> None:
    x, y = numbers(9), np.ones(9, np.float32)
    for other in (np.float16, np.float32, np.float64):
        got = nf.tanh_backward(x, y.astype(other))
        dtype = np.float64 if other is np.float64 else np.float32
        assert same(got, nf.tanh_backward(x.astype(dtype), y.astype(dtype)))
    # Parameters promote nothing; an operand that is a Python number makes float32, with any version of ml_dtypes.
    assert nf.leaky_relu(x, 0.3).dtype == bfloat16
    assert nf.hardtanh(x, -1, np.float64(2)).dtype == bfloat16
    assert nf.tanh_backward(1.0, x).dtype == np.float32
    assert nf.derivative("tanh", x).dtype == bfloat16


@pytest.mark.parametrize("name", GRADIENTS_OF_Y)
def test_gradients_from_y(name: str) -> None:
    x, dy = numbers(500), numbers(500, seed=2)
    y = getattr(nf, name)(x)
    got = getattr(nf, f"{name}_backward")(dy, y=y)
    assert got.dtype == bfloat16
    assert np.allclose(
        wide(got), getattr(nf, f"{name}_backward")(wide(dy), y=wide(y)), rtol=2**-7, atol=1e-6
    )


def test_clipped_outputs_are_told_by_the_rounded_bound() -> None:
    y = nf.hardtanh(np.array([0.5, 0.9], bfloat16), -0.7, 0.7)
    got = nf.hardtanh_backward(np.ones(2, bfloat16), y, -0.7, 0.7)
    assert got.tolist() == [1, 0]


@pytest.mark.parametrize("name", [name for name in ALONG if "glu" not in name])
def test_along_any_axes(name: str) -> None:
    call = ALONG[name]
    x = numbers(4, 30, 6)
    arrays = {key: np.roll(x, k, 1) for k, key in enumerate(call.arrays)}
    for axis in (-1, 1, (0, 2), None):
        given = dict(arrays)
        if name == "logsumexp_backward":
            given["dy"] = nf.logsumexp(x, axis)
        got = call.function(**given, axis=axis)
        expected = call.function(**{k: wide(v) for k, v in given.items()}, axis=axis)
        assert same(np.asarray(got), np.asarray(expected).astype(bfloat16))
    row = {key: array[0, :, 0] for key, array in arrays.items()}
    empty = {key: array[:0] for key, array in arrays.items()}
    if name == "logsumexp_backward":
        row["dy"], empty["dy"] = row["dy"][0], empty["dy"][..., 0]
    assert call.function(**row).dtype == call.function(**empty).dtype == bfloat16


def test_softmax_of_long_rows_in_place() -> None:
    x = numbers(3, 200_001)
    expected = nf.softmax(wide(x)).astype(bfloat16)
    y = x.copy()
    assert nf.softmax(y, out=y) is y
    assert same(y, expected)


def written() -> dict[str, Any]:
    """Functions that are no ufuncs, of x, and where they write."""
    column = numbers(8)
    return {
        "bias_relu": lambda x, out: nf.bias_relu(x, column, out=out),
        "dropout": lambda x, out: nf.dropout(x, rng=0, out=out)[0],
        "dropout in inference": lambda x, out: nf.dropout(x, training=False, out=out)[0],
        "alpha_dropout": lambda x, out: nf.alpha_dropout(x, rng=0, out=out)[0],
        "layer_norm": lambda x, out: nf.layer_norm(x, column, column, out=out)[0],
        "rms_norm": lambda x, out: nf.rms_norm(x, out=out)[0],
        "batch_norm": lambda x, out: nf.batch_norm(x, training=True, out=out)[0],
        "group_norm": lambda x, out: nf.group_norm(x, 2, out=out)[0],
        "masked_softmax": lambda x, out: nf.masked_softmax(x, out=out),
    }


@pytest.mark.parametrize("name", written())
def test_functions_write_to_out_and_in_place(name: str) -> None:
    f, x = written()[name], numbers(20, 8)
    expected = np.asarray(f(wide(x), None)).astype(bfloat16)
    assert same(f(x, None), expected)
    transposed = np.asfortranarray(x)
    assert same(f(transposed, None), expected)
    out = np.zeros((20, 16), bfloat16)[:, ::2]
    assert f(x, out) is out
    assert same(out, expected)
    y = x.copy()
    assert f(y, y) is y
    assert same(y, expected)
    with pytest.raises(TypeError, match=r"out must have dtype bfloat16, got float32"):
        f(x, np.zeros((20, 8), np.float32))
    with pytest.raises(TypeError, match=r"out must have dtype float32, got bfloat16"):
        f(wide(x), np.zeros((20, 8), bfloat16))
    both = np.concatenate([x, x])
    before = both.copy()
    with pytest.raises(ValueError, match="overlap"):
        f(both[:20], both[3:23])
    assert same(both, before)


def test_parameters_of_norms_are_float32() -> None:
    x = numbers(20, 8)
    mean, var = np.zeros(8, np.float32), np.ones(8, np.float32)
    y, saved = nf.batch_norm(x, np.ones(8), np.zeros(8), mean, var, training=True)
    dx, dgamma, dbeta = nf.batch_norm_backward(x, x, np.ones(8), saved)
    assert y.dtype == dx.dtype == bfloat16
    assert dgamma.dtype == dbeta.dtype == np.float32
    assert mean.any()
    # The gradient of what was added is dy itself.
    y, saved = nf.batch_norm(x, add=x, training=True)
    assert nf.batch_norm_backward(x, x, None, saved)[3] is x


def test_more_precise_gradients_are_not_rounded() -> None:
    x, dy = numbers(20, 8), np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    got = nf.bias_gelu_backward(dy, x, np.zeros(8))[0]
    assert same(got, nf.bias_gelu_backward(dy, wide(x), np.zeros(8))[0].astype(bfloat16))
    # And bfloat16 beside float32 is read as such.
    assert nf.bias_gelu_backward(x, dy, np.zeros(8))[0].dtype == np.float32


# ---- optimizers ----


def steps_in_float32(make: Any, grads: list[Array], start: Array) -> tuple[Array, Any]:
    """What masters in float32 become by the rule, with gradients in bfloat16."""
    master = start.astype(np.float32)
    opt = make([master])
    for grad in grads:
        opt.step([grad.astype(np.float32)])
    return master, opt


RULES = [
    *nf.optim.rules.__all__,
    *nf.optim.matrices.__all__,
    *nf.optim.schedule_free.__all__,
]


@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_float32_masters(name: str) -> None:
    make = getattr(nf.optim, name)
    start, grads = numbers(4, 700), [numbers(4, 700, seed=k) for k in range(1, 4)]
    master, reference = steps_in_float32(make, grads, start)
    for layout in ("contiguous", "strided"):
        w = start.copy() if layout == "contiguous" else np.zeros((4, 1400), bfloat16)[:, ::2]
        w[...] = start
        opt = make([w])
        for grad in grads:
            opt.step([grad])
        assert opt.params[0] is w
        assert same(w, master.astype(bfloat16))
        for state, of_reference in zip(opt.state.values(), reference.state.values(), strict=True):
            assert same(state[0], of_reference[0])


OPTIONS: list[dict[str, Any]] = [
    {"clip_global_norm": 0.5},
    {"clip_norm": 0.5, "skip_nonfinite": True},
    {"ema_decay": 0.9},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "uint8"},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_steps(options: dict[str, Any]) -> None:
    start, grads = numbers(3, 5000), [numbers(3, 5000, seed=k) for k in range(1, 4)]
    master, w = start.astype(np.float32), start.copy()
    opt, reference = (nf.optim.Adam([p], lr=0.01, **options) for p in (w, master))
    for grad in grads:
        got = opt.step([grad], stats=True)
        expected = reference.step([wide(grad)], stats=True)
        assert got is not None
        assert expected is not None
        assert np.array_equal(got.grad_norm, expected.grad_norm)
        assert np.array_equal(got.param_norm, expected.param_norm)
    assert same(w, master.astype(bfloat16))
    if opt.ema is not None:
        assert same(opt.ema[0], reference.ema[0])  # type: ignore[index]


def test_accumulated_gradients_and_rows() -> None:
    start = numbers(6, 40)
    parts_of = [numbers(6, 40, seed=k) * bfloat16(2**20) for k in range(1, 4)]  # no float16
    w, master = start.copy(), start.astype(np.float32)
    opt, reference = nf.optim.Adam([w]), nf.optim.Adam([master])
    for part in parts_of:
        opt.accumulate([part])
        reference.accumulate([wide(part)])
    opt.step()
    reference.step()
    opt.accumulate([parts_of[0]])
    reference.accumulate([wide(parts_of[0])])
    opt.step([parts_of[1]], grad_scale=0.5)
    reference.step([wide(parts_of[1])], grad_scale=0.5)
    rows = nf.optim.Rows([1, 3], parts_of[2][:2])
    opt.step([rows])
    reference.step([rows.astype(np.float32)])
    assert same(w, master.astype(bfloat16))


def test_what_is_written_to_parameters_between_steps_counts() -> None:
    w, of_float16 = numbers(50), numbers(50).astype(np.float16)
    for array in (w, of_float16):
        opt = nf.optim.SGD([array], lr=2.0**-12)
        opt.step([np.ones_like(array)])
        array[:5] = 3
        opt.step([np.ones_like(array)])
        assert opt._master is not None
        assert (opt._master[0][:5] == np.float32(3 - 2.0**-12)).all()


def test_skipped_and_refused_steps_change_nothing() -> None:
    w = numbers(50)
    before = w.copy()
    opt = nf.optim.Adam([w], skip_nonfinite=True)
    opt.step([np.full(50, np.inf, bfloat16)])
    assert opt.skipped_count == 1
    for wrong in (np.ones(50, np.float32), np.ones(50, np.float16)):
        with pytest.raises(TypeError, match="must have dtype bfloat16"):
            opt.step([wrong])
    with pytest.raises(ValueError, match="must not share memory"):
        opt.step([w])
    assert same(w, before)


def test_parameters_of_several_dtypes(tmp_path: Path) -> None:
    start = np.random.default_rng(0).standard_normal(30)
    params = {name: start.astype(name) for name in ("float16", "float32", "float64")}
    params["bfloat16"] = start.astype(bfloat16)
    grads = {name: p[::-1].copy() for name, p in params.items()}
    opt = nf.optim.AdamW(params, lr=0.1, ema_decay=0.9)
    opt.step(grads)
    opt.save(tmp_path / "state.npz")
    others = {name: p.copy() for name, p in params.items()}
    resumed = nf.optim.AdamW(others, lr=0.1, ema_decay=0.9)
    resumed.load(tmp_path / "state.npz")
    pickled = pickle.loads(pickle.dumps(opt))
    for each in (opt, resumed, pickled):
        each.step(grads)
    for k, p in enumerate(opt.params):
        assert same(resumed.params[k], p)
        assert same(pickled.params[k], p)


def test_functions_of_optimizers() -> None:
    w, dw = numbers(60), numbers(60, seed=1)
    master = wide(w)
    state, of_master = None, None
    for _ in range(3):
        w, state = nf.optim.adam(w, dw, state, lr=0.1)
        master, of_master = nf.optim.adam(master, wide(dw), of_master, lr=0.1)
    assert same(w, master.astype(bfloat16))


@pytest.mark.parametrize("make", [nf.averaging.EMA, nf.averaging.SWA])
def test_averages(make: Any) -> None:
    steps = [numbers(40, seed=k) for k in range(4)]
    average, reference = make([steps[0]]), make([wide(steps[0])])
    for w in steps:
        average.update([w])
        reference.update([wide(w)])
    assert average.averages()[0].dtype == np.float32
    assert same(average.averages()[0], reference.averages()[0])
    w = steps[0].copy()
    average.copy_to([w])
    assert same(w, reference.averages()[0].astype(bfloat16))
    with average.applied([w]):
        assert w.dtype == bfloat16


def test_lookahead_and_lbfgs() -> None:
    start, grad = numbers(40), numbers(40, seed=1)
    w, master = start.copy(), start.astype(np.float32)
    for param, dw in ((w, grad), (master, wide(grad))):
        opt = nf.optim.Lookahead(nf.optim.SGD([param], lr=0.1), k=2)
        for _ in range(4):
            opt.step([dw])
    assert same(w, master.astype(bfloat16))
    lbfgs = nf.optim.LBFGS([w])
    lbfgs.step(lambda: (float(np.square(wide(w)).sum()), [2 * wide(w)]))
    assert np.abs(wide(w)).max() < 1e-3


def test_other_libraries_arrays() -> None:
    x = numbers(4, 6)
    for f in (nf.gelu, nf.leaky_relu, nf.softmax, nf.glu):
        y = f(xr.DataArray(x))
        assert type(y) is xr.DataArray
        assert same(y.values, f(x))
        lazy = f(da.from_array(x, chunks=(2, 6)))
        assert same(lazy.compute(), f(x))


def test_layers_without_parameters() -> None:
    x = numbers(4, 6)
    for layer in (nf.nn.ReLU(), nf.nn.GELU(), nf.nn.Dropout(0.5, rng=0), nf.nn.Softmax()):
        y = layer.forward(x, training=True)
        assert y.dtype == layer.backward(x).dtype == bfloat16
    net = nf.nn.Sequential(nf.nn.Dense(6, 3, rng=0), nf.nn.ReLU())
    assert same(net.forward(x), net.forward(wide(x)))


# ---- without ml_dtypes, and whichever is imported first ----


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_package_is_not_imported() -> None:
    assert run("import sys, nnfast as nf; nf.optim; print('ml_dtypes' in sys.modules)") == "False"


def test_without_the_package() -> None:
    code = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, nnfast as nf
w = np.ones(3, np.float16)
opt = nf.optim.Adam([w])
opt.step([w.copy()])
print(nf.relu(np.ones(2, np.float16)).dtype, nf.dropout(w, rng=0)[0].dtype)
"""
    assert run(code) == "float16 float16"


@pytest.mark.parametrize("order", ["nnfast, ml_dtypes", "ml_dtypes, nnfast"])
@pytest.mark.parametrize(
    "first",
    ["nf.gelu(x)", "nf.leaky_relu(x)", "nf.softmax(x)", "nf.logsumexp(x)", "nf.layer_norm(x)[0]",
     "nf.tanh(np.ones(3, np.float32), out=x)", "nf.glu(x)"],
)  # fmt: skip
def test_any_call_may_be_the_first(order: str, first: str) -> None:
    code = f"""
import {order}
import numpy as np
nf = nnfast
y = nf.relu(np.ones(3, np.float32))
x = np.ones(4 if "glu" in {first!r} else 3, ml_dtypes.bfloat16)
print(({first}).dtype, nf.relu(x).dtype, y.dtype)
"""
    assert run(code) == "bfloat16 bfloat16 float32"


def test_check_dtypes_counts_it_with_float32() -> None:
    arrays = {"w": np.ones(2, bfloat16), "b": np.ones(2, np.float32)}
    report = nf.checks.check_dtypes(arrays)
    assert report.passed
    assert report.dtypes == {"w": "bfloat16", "b": "float32"}
    assert nf.checks.check_dtypes({**arrays, "x": np.ones(2)}).others == {"x": "float64"}
    assert nf.checks.check_dtypes(arrays, bfloat16).others == {"b": "float32"}


def test_sums_of_dask_are_float32() -> None:
    x = numbers(6, 4)
    blocks = da.from_array(x, chunks=(3, 4))
    y, saved = nf.dask.batch_norm(blocks, training=True)
    dx, dgamma, dbeta = nf.dask.batch_norm_backward(blocks, blocks, None, saved)
    expected_y, kept = nf.batch_norm(x, training=True)
    expected = nf.batch_norm_backward(x, x, None, kept)
    assert [a.dtype for a in (y, dx, dgamma, dbeta)] == [bfloat16, bfloat16, np.float32, np.float32]
    for got, of in zip((y, dgamma, dbeta), (expected_y, *expected[1:]), strict=True):
        np.testing.assert_allclose(wide(got.compute()), wide(of), rtol=2**-7)


def test_ufuncs_are_pickled_and_listed() -> None:
    nf.relu(np.ones(3, bfloat16))
    assert pickle.loads(pickle.dumps(nf.relu)) is nf.relu
    assert nf.relu.types == ["e->e", "f->f", "d->d"]
