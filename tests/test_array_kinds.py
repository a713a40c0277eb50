"""What every public function does with arrays of other kinds: the right numbers, or an error saying what to pass."""

import re
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nnfast as nf
from array_kinds import ALONG, COLUMN, KEEPING, KINDS, POSITIONAL, READING, Call, Kind, X
from fuzz.targets import targets

pytestmark = [
    # PyTorch's tensors wrap what a ufunc gives by a method of an old form, of which NumPy warns.
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context"),
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
]

TYPES = {
    "Series": pd.Series,
    "DataFrame": pd.DataFrame,
    "DataArray": xr.DataArray,
    "matrix": np.matrix,
    "Dask": da.Array,
    "Dask in a DataArray": xr.DataArray,
    "masked": np.ma.MaskedArray,
}
every_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.peers if kind == "tensor" else ()) for kind in KINDS],
)
SCIKIT_LEARN = ("preprocessing.", "estimators.")


def parts(result: Any) -> Iterator[Any]:
    """The arrays and numbers of a result, which may be tuples and records of them."""
    if isinstance(result, tuple | list) or hasattr(result, "m2"):
        for part in result if isinstance(result, tuple | list) else (result.mean, result.m2):
            yield from parts(part)
    else:
        yield result


def assert_same(result: Any, expected: Any, note: str) -> None:
    """The same numbers, whatever the types."""
    pairs = list(zip(parts(result), parts(expected), strict=True))
    assert pairs
    for actual, reference in pairs:
        if isinstance(reference, str | None):
            assert actual == reference, note
        else:
            np.testing.assert_array_equal(np.asarray(actual), np.asarray(reference), err_msg=note)


def replacements(call: Call, kind: Kind) -> Iterator[dict[str, Any]]:
    """Each array of a call by itself as one of the kind, then all that can be."""
    of_kind = {
        name: kind.make(array) for name, array in call.arrays.items() if array.ndim in kind.ndims
    }
    for name, value in of_kind.items():
        yield {name: value}
    if len(of_kind) > 1:
        yield of_kind


def test_the_table_is_complete() -> None:
    listed = KEEPING.keys() | ALONG.keys() | POSITIONAL.keys() | READING.keys()
    writing = {  # these read none but what they write, or lists of arrays that are written
        *("merge_stats", "averaging.BatchNormRecomputer", "averaging.mean_of_checkpoints"),
        *("averaging.EMA", "averaging.SWA", "random.Philox"),
        *("penalties.l1", "penalties.l2", "penalties.elastic_net", "penalties.max_norm_"),
        *(f"optim.{name}" for name in nf.optim.__all__),
        *(name for name in targets() if name.startswith("init.")),
    }
    functions = {name for name in targets() if not name.endswith(".ufunc")}
    assert functions - listed <= writing


def assert_refused(match: str, call: Call, given: dict[str, Any], note: str) -> None:
    """The call raises a TypeError that says so."""
    said = f"{note} raised nothing"
    try:
        call(**given)
    except TypeError as error:
        said = f"{note}: {error}"
    assert re.search(match, said), said


@every_kind
def test_functions_that_read_arrays(kind: str) -> None:
    how = KINDS[kind]
    for name, call in READING.items():
        of_sklearn = name.startswith(SCIKIT_LEARN)
        if of_sklearn and kind == "Dask":  # which these take: test_dask_training.py
            continue
        if name == "batches" and kind in (
            "Dask",
            "object",
            "structured",
        ):  # so it does: test_batches.py
            continue
        expected = call()
        for given in replacements(call, how):
            note = f"{name}({', '.join(given)}: {kind})"
            if of_sklearn and kind in ("object", "structured", "matrix", "big-endian", "tensor"):
                # scikit-learn makes float64 of them, or has an error of its own.
                try:
                    found = call(**given)
                except (TypeError, ValueError):
                    continue
                wide = {argument: call.arrays[argument].astype(float) for argument in given}
                np.testing.assert_allclose(found, call(**wide), rtol=1e-12, err_msg=note)
            elif kind in ("object", "structured") and {"labels", "y", "indices"} & given.keys():
                assert_refused("must be", call, given, note)
            elif how.error:
                assert_refused(how.error, call, given, note)
            else:
                assert_same(call(**given), expected, note)


@every_kind
def test_elementwise_functions_keep_the_kind(kind: str) -> None:
    how = KINDS[kind]
    for name, call in KEEPING.items():
        for x in (X, COLUMN):
            if x.ndim not in how.ndims:
                continue
            plain = dict.fromkeys(call.arrays, x)
            given = {argument: how.make(x) for argument in call.arrays}
            if kind in ("object", "structured"):
                assert_refused(how.error, call, given, name)
                continue
            result, expected = call(**given), call(**plain)
            if kind in TYPES:
                assert type(result) is TYPES[kind], name
            if kind == "masked":
                np.testing.assert_array_equal(result.mask, given["x"].mask, err_msg=name)
                result, expected = result.compressed(), expected[~given["x"].mask]
            if kind in ("Series", "DataFrame"):
                assert result.index.equals(given["x"].index)
            assert_same(result, expected, name)


@every_kind
def test_a_bias_belongs_to_columns_by_position(kind: str) -> None:
    how = KINDS[kind]
    for name, call in POSITIONAL.items():
        for given in replacements(call, how):
            note = f"{name}({', '.join(given)}: {kind})"
            lazy = kind.startswith("Dask") and ("x" in given or name.startswith("prelu"))
            by_ufunc = name.startswith("prelu") and kind == "masked" and "weight" not in given
            if how.error and not lazy and not by_ufunc:
                assert_refused(how.error, call, given, note)
                continue
            result, expected = call(**given), call()
            if by_ufunc:
                assert type(result) is np.ma.MaskedArray, note
                expected = expected[~result.mask]
                result = result.compressed()
            assert np.shape(result) == np.shape(expected), note
            if (
                "x" in given
                and not by_ufunc
                and kind in TYPES
                and (name.startswith("prelu") or kind != "matrix")
            ):
                assert type(result) is TYPES[kind], note
            assert_same(result, expected, note)


@every_kind
def test_functions_along_an_axis(kind: str) -> None:
    how = KINDS[kind]
    for name, call in ALONG.items():
        expected = call()
        for given in replacements(call, how):
            note = f"{name}({', '.join(given)}: {kind})"
            lazy = kind.startswith("Dask") and ("x" in given or "y" in given or "glu" not in name)
            if how.error and not lazy:
                assert_refused(how.error, call, given, note)
                continue
            result = call(**given)
            assert_same(result, expected, note)
            if kind.endswith("DataArray") and call.arrays.keys() == given.keys():
                assert type(result) is xr.DataArray, note
            if kind == "Dask":
                assert type(result) is da.Array, note


AXES = [-1, 0, 1, None, (0, 1), (0, 2), (-1, 0, 1), (2,)]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "sparsemax"])
@pytest.mark.parametrize("axis", AXES)
def test_softmax_along_any_axes(name: str, axis: Any) -> None:
    """Against the plain one, over the axes moved to the end and made one."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    axes = tuple(range(3)) if axis is None else tuple(np.atleast_1d(axis) % 3)
    rest = [d for d in range(3) if d not in axes]
    function, gradient = getattr(nf, name), getattr(nf, f"{name}_backward")

    def flat(array: Any) -> Any:
        shape = [array.shape[d] for d in rest]
        return np.ascontiguousarray(array.transpose(*rest, *sorted(axes))).reshape(*shape, -1)

    y, expected = function(x, axis=axis), function(flat(x))
    if name == "logsumexp":
        assert_same(y, expected, name)
        kept = function(x, axis=axis, keepdims=True)
        assert kept.shape == tuple(1 if d in axes else n for d, n in enumerate(x.shape))
        assert_same(kept.reshape(np.shape(y)), y, name)
        dy = np.asarray(rng.standard_normal(np.shape(y)).astype(np.float32))
        assert_same(flat(gradient(dy, x, axis)), gradient(dy, flat(x)), name)
        kept_dy = dy.reshape(kept.shape)
        assert_same(gradient(kept_dy, x, axis, keepdims=True), gradient(dy, x, axis), name)
        out = np.empty(np.shape(y), np.float32)
    else:
        assert_same(flat(y), expected, name)
        assert_same(flat(gradient(dy, y, axis)), gradient(flat(dy), expected), name)
        out = x.copy()
        assert function(out, axis=axis, out=out) is out  # in place
        assert_same(out, y, name)
        out = dy.copy()
        assert gradient(out, y, axis, out=out) is out
        assert_same(out, gradient(dy, y, axis), name)
        out = np.empty_like(x)
    assert function(x, axis=axis, out=out) is out
    assert_same(out, y, name)
    # What has labels gives the same, and keeps them.
    labelled = xr.DataArray(x, dims=("a", "b", "c"), coords={"b": list("wxyz")})
    found = function(labelled, axis=axis)
    assert type(found) is xr.DataArray
    assert_same(found, y, name)
    if name != "logsumexp":
        assert found.dims == labelled.dims
        assert found.coords.equals(labelled.coords)
    else:
        assert found.dims == tuple("abc"[d] for d in rest)
    lazy = function(da.from_array(x, chunks=(3, 4, 5)), axis=axis)
    assert type(lazy) is da.Array
    assert_same(lazy.compute(scheduler="sync"), y, name)
    assert_same(function(x.tolist(), axis=axis, dtype=np.float32), y, name)


def test_softmax_of_tables() -> None:
    frame = pd.DataFrame(X, index=list("wxyz"), columns=list("abcdef"))
    for axis, shares in ((-1, 4), (0, 6), (None, 1)):
        p = nf.softmax(frame, axis=axis)
        assert type(p) is pd.DataFrame
        assert (list(p.index), list(p.columns)) == (list("wxyz"), list("abcdef"))
        assert abs(p.to_numpy().sum() - shares) < 1e-5
    total = nf.logsumexp(frame)
    assert type(total) is pd.Series
    assert list(total.index) == list("wxyz")
    np.testing.assert_array_equal(total, nf.logsumexp(X))
    assert list(nf.logsumexp(frame, axis=0).index) == list("abcdef")
    assert nf.logsumexp(frame, axis=None) == nf.logsumexp(X, axis=None)
    assert nf.logsumexp(frame["a"]) == nf.logsumexp(X[:, 0])
    out = np.empty_like(X)
    assert nf.softmax(frame, out=out) is out
    np.testing.assert_array_equal(out, nf.softmax(X))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_errors_of_softmax(name: str) -> None:
    function = getattr(nf, name)
    with pytest.raises(TypeError, match="keepdims"):
        function(X, keepdims=True)
    with pytest.raises(ValueError, match="axis must be an axis of x with shape"):
        function(X, axis=(0, 2))
    with pytest.raises(ValueError, match="each once"):
        function(X, axis=(0, 0))
    with pytest.raises(ValueError, match="each once"):
        function(X, axis=())
    with pytest.raises(TypeError, match="axis must be an int, got str"):
        function(X, axis="rows")
    with pytest.raises(TypeError, match="axis must be an int, got ndarray"):
        function(X, X)
    with pytest.raises(ValueError, match=r"out must have shape \(4, 6\), got \(6, 4\)"):
        function(X, axis=None, out=np.empty((6, 4), np.float32))
    with pytest.raises(TypeError, match="Cannot cast"):
        function(X, axis=None, out=np.empty(X.shape, int))
    with pytest.raises(TypeError, match="out must be an array without a mask"):
        function(X, out=np.ma.masked_array(X, X > 0))
    assert function(np.float32(3), axis=None) == (1 if name == "softmax" else 0)


def test_errors_of_logsumexp_backward() -> None:
    with pytest.raises(
        ValueError, match=r"dy must broadcast to the shape of y, \(4,\), got \(4, 1\)"
    ):
        nf.logsumexp_backward(X[:, :1], X)
    with pytest.raises(ValueError, match=r"dy must have shape \(4, 1\) where keepdims is True"):
        nf.logsumexp_backward(X[:, 0], X, keepdims=True)


# ---- functions that write arrays ----


def written() -> dict[str, Any]:
    """Calls that write into the array that they are given, of which the numbers are those of X."""
    adam = {"lr": 0.1}
    return {
        "softmax": lambda a: nf.softmax(X, out=a),
        "layer_norm": lambda a: nf.layer_norm(X, out=a),
        "batch_norm": lambda a: nf.batch_norm(X, out=a, training=True),
        "dropout": lambda a: nf.dropout(X, out=a, rng=0),
        "mse_loss": lambda a: nf.mse_loss(X, X[::-1], out=a),
        "softmax_cross_entropy": lambda a: nf.softmax_cross_entropy(X, [0, 1, 2, 3], out=a),
        "maxout": lambda a: nf.maxout(np.repeat(X, 2, axis=1), 2, out=a),
        "glu": lambda a: nf.glu(np.repeat(X, 2, axis=1), out=a),
        "bias_relu": lambda a: nf.bias_relu(X, COLUMN, out=a),
        "random_noise": lambda a: nf.augmentation.random_noise(X, 0.1, rng=0, out=a),
        "init.normal": lambda a: nf.init.normal(rng=0, out=a),
        "Philox": lambda a: nf.random.Philox(0).normal(out=a),
        "max_norm_": lambda a: nf.penalties.max_norm_(a, 0.5),
        "max_norm_ of rows": lambda a: nf.penalties.max_norm_(a, 0.5, axis=1),
        "l2": lambda a: nf.penalties.l2([X], 0.1, [a]),
        "Adam": lambda a: nf.optim.Adam([a], **adam).step([X]),
        "EMA": lambda a: _ema(a),
    }


def _ema(a: Any) -> None:
    average = nf.averaging.EMA([X])
    average.update([X + 1])
    average.copy_to([a])


@pytest.mark.parametrize("name", written())
@pytest.mark.parametrize("kind", ["matrix", "memmap", "masked", "read-only", "tensor", "DataFrame"])
def test_functions_that_write_arrays(name: str, kind: str) -> None:
    call = written()[name]
    plain = X.copy()
    call(plain)
    if kind == "tensor" and not _has_torch():
        return
    given = KINDS[kind].make(X)
    if kind in ("matrix", "memmap"):
        call(given)
        np.testing.assert_array_equal(np.asarray(given), plain)
        return
    with pytest.raises((TypeError, ValueError), match="mask|read-only|ndarray|must be an array"):
        call(given)
    np.testing.assert_array_equal(np.asarray(given), X)


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def test_masked_parameters_and_gradients_are_refused() -> None:
    masked = KINDS["masked"].make(X)
    with pytest.raises(TypeError, match=r"params\[0\] must be an array without a mask"):
        nf.optim.SGD([masked], lr=0.1)
    opt = nf.optim.SGD([X.copy()], lr=0.1)
    with pytest.raises(TypeError, match=r"grads\[0\] must be an array without a mask"):
        opt.step([masked])
    with pytest.raises(TypeError, match=r"params\['w'\] must be an array without a mask"):
        nf.averaging.SWA({"w": masked}).update({"w": masked})
    net = nf.nn.Dense(6, 6)
    for keeper in (nf.nn.Sequential(net), nf.optim.Adam(net.params)):
        state = {name: np.ma.masked_array(value) for name, value in keeper.state_dict().items()}
        with pytest.raises(TypeError, match=r"state\['.*'\] must be an array without a mask"):
            keeper.load_state_dict(state)
    with pytest.raises(TypeError, match="num_batches_tracked must be an array without a mask"):
        nf.batch_norm(X, training=True, num_batches_tracked=np.ma.masked_array(3))
    with pytest.raises(TypeError, match="mask must be an array without a mask"):
        nf.dropout(X, mask=np.ma.masked_array(np.zeros(3, np.uint8), True))
    with pytest.raises(TypeError, match="running_mean must be an array without a mask"):
        nf.batch_norm(X, running_mean=np.ma.masked_array(COLUMN), running_var=COLUMN, training=True)


class Table:
    """As a DataFrame of Dask's, which needs pyarrow, shows itself."""

    shape, dtype, ndim = X.shape, X.dtype, 2

    def __dask_graph__(self) -> dict[str, Any]:
        return {"table": X}

    def to_dask_array(self, lengths: bool) -> Any:
        raise AssertionError

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError

    def __array_ufunc__(self, *given: Any, **more: Any) -> Any:
        raise AssertionError


def test_dask_data_frames_are_refused() -> None:
    """They would be loaded whole, and as float64."""
    frame = Table()
    labels = np.arange(4) % 2
    for call in (
        lambda: nf.estimators.NNClassifier().fit(frame, labels),
        lambda: nf.estimators.NNClassifier().fit(X, frame),
        lambda: nf.estimators.NNRegressor(max_iter=1).fit(X, labels).predict(frame),
        lambda: nf.preprocessing.StandardScaler().fit(frame),
        lambda: nf.preprocessing.StandardScaler().fit(X).transform(frame),
        lambda: nf.softmax(frame),
        lambda: nf.layer_norm(frame),
        lambda: nf.dropout(frame),
    ):
        with pytest.raises(TypeError, match=r"nnfast.dask with \w+\.to_dask_array\(lengths=True\)"):
            call()


def test_a_lazy_layer_computes_nothing() -> None:
    def fail(block: Any) -> Any:
        raise AssertionError

    lazy = da.from_array(X, chunks=(2, 6)).map_blocks(fail, dtype=X.dtype)
    for call in (nf.batch_norm, nf.dropout, nf.layer_norm, nf.alpha_dropout, nf.rms_norm):
        with pytest.raises(TypeError, match="nnfast.dask"):
            call(lazy)
    for call in (nf.softmax, nf.glu, nf.relu, lambda x: nf.bias_relu(x, COLUMN)):
        assert type(call(lazy)) is da.Array
