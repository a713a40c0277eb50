"""Means of checkpoints and of predictions: values, files, memory, errors."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnfast as nf
from averaging_data import Array, assert_lists, both_dtypes, copies, draw, three_dtypes
from layouts import assert_same_bits, layouts
from nnfast.averaging import SWA, mean_of_checkpoints, mean_of_predictions
from ulp import assert_ulp

# ---- checkpoints ----


class OneAtATime:
    """Makes arrays, and asserts each time that those before have been let go of."""

    def __init__(self) -> None:
        self.alive: list[weakref.ref[Array]] = []

    def __call__(self, value: float) -> Array:
        assert all(earlier() is None for earlier in self.alive)
        array = np.full(1000, float(value))
        self.alive.append(weakref.ref(array))
        return array


@three_dtypes
def test_checkpoints_from_arrays_and_from_files(dtype: type, tmp_path: Path) -> None:
    names = ["w", "b", "c", "d", "e"]
    lists = [draw(dtype, seed) for seed in range(5)]
    dicts = [dict(zip(names, arrays, strict=True)) for arrays in lists]
    paths = []
    for i, arrays in enumerate(dicts):
        backwards = dict(reversed(arrays.items())) if i else arrays
        paths.append(tmp_path / f"{i}.npz")
        np.savez(paths[-1], **backwards)
    mean = mean_of_checkpoints(lists)
    for got, *members in zip(mean, *lists, strict=True):
        assert got.dtype == dtype
        expected = np.mean([m.astype(np.longdouble) for m in members], axis=0)
        if dtype == np.float64:
            np.testing.assert_allclose(got, expected.astype(float), 0, 4 * np.finfo(dtype).eps * 6)
        else:
            # Rounded once: half an ulp of the true mean.
            assert_ulp(got, expected.astype(float), 0.5 + 2**-20)
    for checkpoints in (dicts, paths, map(str, paths), [dicts[0], *paths[1:]]):
        found = mean_of_checkpoints(checkpoints)
        assert list(found) == names
        assert_lists(list(found.values()), mean)
    assert_lists(mean_of_checkpoints([lists[0]]), lists[0])


def test_one_checkpoint_at_a_time() -> None:
    member = OneAtATime()
    assert (mean_of_checkpoints([member(k)] for k in range(5))[0] == 2).all()
    assert len(member.alive) == 5


def test_a_state_is_no_checkpoint_of_parameters(tmp_path: Path) -> None:
    w = np.ones(3, np.float32)
    swa = SWA([w])
    swa.update([w])
    swa.save(tmp_path / "swa.npz")
    with pytest.raises(TypeError, match=r"checkpoints\[0\]\['average'\] must be .*, got dtype <U3"):
        mean_of_checkpoints([tmp_path / "swa.npz"])


def test_a_file_with_pickles_is_refused(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, w=np.ones(2))
    np.savez(bad, w=np.array([Evil(), Evil()], object))
    with pytest.raises(
        ValueError, match=r"checkpoints\[1\] must be an .npz file .* without pickle"
    ):
        mean_of_checkpoints([good, bad])
    assert not ran.exists()
    np.load(bad, allow_pickle=True)["w"]
    assert ran.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04N.", b"text", "npy"])
def test_a_file_that_is_no_npz_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoints\[0\] must be an .npz file .*file.npz"):
        mean_of_checkpoints([path])
    with pytest.raises(FileNotFoundError):
        mean_of_checkpoints([tmp_path / "nowhere.npz"])


ONES = {"w": np.ones((2, 3)), "b": np.ones(3)}


@pytest.mark.parametrize(
    ("checkpoints", "error", "message"),
    [
        ([], ValueError, "checkpoints must not be empty"),
        (5, TypeError, "checkpoints must be a sequence or another iterable, got int"),
        ("model.npz", TypeError, "checkpoints must be .*, got str"),
        (Path("model.npz"), TypeError, "checkpoints must be .*, got "),
        (ONES, TypeError, "checkpoints must be .*, got dict"),
        (
            [ONES["w"]],
            TypeError,
            r"checkpoints\[0\] must be a sequence or mapping of arrays, got n",
        ),
        (
            [[1.0]],
            TypeError,
            r"checkpoints\[0\]\[0\] must be a numpy.ndarray of float16, bfloat16, float32 or",
        ),
        ([{"n": np.ones(1, int)}], TypeError, r"checkpoints\[0\]\['n'\] must .*, got dtype int64"),
        ([[np.ones(3, ">f4")]], TypeError, r"checkpoints\[0\]\[0\] must .*, got dtype >f4"),
        (
            [ONES, {"w": ONES["w"]}],
            ValueError,
            r"checkpoints\[1\] must have the names of checkpoints\[0\], but lacks 'b'",
        ),
        (
            [ONES, ONES, {**ONES, "c": np.ones(1)}],
            ValueError,
            r"checkpoints\[2\] must have the 2 names of checkpoints\[0\], got 3",
        ),
        (
            [ONES, list(ONES.values())],
            TypeError,
            r"checkpoints\[1\] must be a mapping, as checkpoints\[0\] were, got list",
        ),
        ([list(ONES.values()), ONES], TypeError, r"checkpoints\[1\] must be a sequence of arrays"),
        ([[np.ones(3)], []], ValueError, r"checkpoints\[1\] must have 1 arrays, got 0"),
        (
            [ONES, {**ONES, "b": np.ones(4)}],
            ValueError,
            r"checkpoints\[1\]\['b'\] must have shape \(3,\), got \(4,\)",
        ),
        (
            [ONES, {**ONES, "b": np.ones(1)}],
            ValueError,
            r"checkpoints\[1\]\['b'\] must have shape \(3,\), got \(1,\)",
        ),
        (
            [ONES, {**ONES, "b": np.ones(3, "f")}],
            TypeError,
            r"checkpoints\[1\]\['b'\] must have dtype float64, got float32",
        ),
    ],
)
def test_checkpoints_are_checked(checkpoints: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mean_of_checkpoints(checkpoints)


# ---- ensembles ----


def probabilities(dtype: type, members: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [nf.softmax(rng.normal(0, 3, (9, 5)).astype(dtype)) for _ in range(members)]


def reference_mean(members: list[Array], weights: Any) -> Array:
    shares = np.array(weights, np.longdouble)
    wide = [m.astype(np.longdouble) for m in members]
    mean: Array = sum(s * m for s, m in zip(shares, wide, strict=True)) / shares.sum()
    return mean


@three_dtypes
@given(
    weights=st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 100),
)
def test_the_weighted_mean(dtype: type, weights: list[float], seed: int) -> None:
    members = probabilities(dtype, len(weights), seed)
    got = mean_of_predictions(members, weights)
    assert got.dtype == dtype
    expected = reference_mean(members, weights)
    if dtype == np.float64:
        # Products, sums and the quotient of numbers that are not negative.
        assert_ulp(got, expected, 2 * len(weights) + 1)
    else:
        assert_ulp(got, expected.astype(float), 0.5 + 2**-20)


@three_dtypes
def test_equal_weights(dtype: type) -> None:
    members = probabilities(dtype, 3)
    expected = mean_of_predictions(members)
    reference = reference_mean(members, [1, 1, 1])
    assert_ulp(expected, reference if dtype == np.float64 else reference.astype(float), 2)
    for weights in ([1, 1, 1], (4.0, 4.0, 4.0), np.ones(3, np.float32)):
        assert_same_bits(mean_of_predictions(members, weights), expected)
    assert_same_bits(mean_of_predictions(np.array(members)), expected)
    assert_same_bits(mean_of_predictions(m for m in members), expected)


@three_dtypes
def test_an_ensemble_of_one(dtype: type) -> None:
    (p,) = probabilities(dtype, 1)
    assert_same_bits(mean_of_predictions([p]), p)
    assert_same_bits(mean_of_predictions([p], [1]), p)
    log_p = nf.log_softmax(np.log(p))
    assert_ulp(mean_of_predictions([log_p], kind="log"), log_p.astype(np.longdouble), 2)


@three_dtypes
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_the_geometric_mean(dtype: type, axis: int, weights: Any) -> None:
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 3, (9, 5)).astype(dtype) for _ in range(3)]
    got = mean_of_predictions(logits, weights, kind="log", axis=axis)
    assert got.dtype == dtype
    # Logits differ from log-probabilities by what the normalisation takes away.
    log_p = [np.asarray(x, np.longdouble) for x in logits]
    log_p = [x - np.log(np.exp(x).sum(axis=axis, keepdims=True)) for x in log_p]
    geometric = np.exp(reference_mean(log_p, weights or [1, 1, 1]))
    expected = np.log(geometric / geometric.sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(got, expected.astype(float), 2 * np.finfo(dtype).eps)
    again = mean_of_predictions((x.astype(dtype) for x in log_p), weights, kind="log", axis=axis)
    np.testing.assert_allclose(again, got, 0, 8 * np.finfo(dtype).eps * np.abs(got).max())


def test_excluded_classes() -> None:
    sure, unsure = np.array([[0.0, -np.inf]]), np.log([[0.5, 0.5]])
    found = mean_of_predictions([sure, unsure], kind="log")
    assert_same_bits(found, np.array([[0.0, -np.inf]]))
    against = mean_of_predictions([sure, sure[:, ::-1]], kind="log")
    assert np.isnan(against).all()


def test_a_member_without_weight_takes_no_part() -> None:
    good, bad = np.array([0.25, 0.75]), np.array([np.nan, -np.inf])
    assert_same_bits(mean_of_predictions([bad, good, bad], [0, 2, 0]), good)


@both_dtypes
def test_out(dtype: type) -> None:
    members = probabilities(dtype, 3)
    for kind in ("probabilities", "log"):
        expected = mean_of_predictions(members, kind=kind)  # type: ignore[arg-type]
        for out in layouts(np.zeros_like(expected)).values():
            assert mean_of_predictions(members, kind=kind, out=out) is out  # type: ignore[arg-type]
            assert_same_bits(out, expected)
        mine = copies(members)
        assert mean_of_predictions(mine, kind=kind, out=mine[0]) is mine[0]  # type: ignore[arg-type]
        assert_same_bits(mine[0], expected)
        assert_lists(mine[1:], members[1:])


def test_integers_and_scalars_are_predictions_too() -> None:
    assert_same_bits(mean_of_predictions([[1, 0], [0, 0]]), np.array([0.5, 0]))
    assert mean_of_predictions([1.0, 2.0]) == 1.5


def test_one_member_at_a_time() -> None:
    for weights in (None, [0, 1, 0, 1, 0]):
        member = OneAtATime()
        assert (mean_of_predictions((member(k) for k in range(5)), weights) == 2).all()
        assert len(member.alive) == 5


P = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([],), {}, ValueError, "predictions must not be empty"),
        ((5,), {}, TypeError, "predictions must be a sequence or another iterable, got int"),
        (({"a": P},), {}, TypeError, "predictions must be .*, got dict"),
        (([P, "x"],), {}, TypeError, r"predictions\[1\] must be an array of real numbers"),
        (([P, P[0]],), {}, ValueError, r"predictions\[1\] must have shape \(2, 2\), got \(2,\)"),
        (([P, P.astype("f")],), {}, TypeError, r"predictions\[1\] must have dtype float64, got fl"),
        (([P, P], [1]), {}, ValueError, "weights must be one for each prediction, got only 1"),
        (([P], [1, 2]), {}, ValueError, "weights must be one for each of 1 predictions, got 2"),
        (([P, P], [2, -1]), {}, ValueError, r"weights must not be negative.*, got \[2, -1\]"),
        (([P, P], [0, 0]), {}, ValueError, r"weights must not be .* all 0, got \[0, 0\]"),
        (([P, P], [1, np.nan]), {}, ValueError, "weights must not be negative, infinite"),
        (([P, P], [1, np.inf]), {}, ValueError, "weights must not be negative, infinite"),
        (([P, P], [[1, 1]]), {}, ValueError, r"weights must be one number .* got shape \(1, 2\)"),
        (([P], ["a"]), {}, TypeError, "weights must be an array of real numbers"),
        (([P],), {"kind": "median"}, ValueError, 'kind must be "probabilities" or "log", got'),
        (([P],), {"kind": "log", "axis": 2}, ValueError, "axis must be an axis of predictions"),
        (([P],), {"out": np.zeros(2)}, ValueError, r"out must have shape \(2, 2\), got \(2,\)"),
        (([P],), {"out": np.zeros((2, 2), "f")}, TypeError, "out must have dtype float64"),
        (([P],), {"out": [0.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_predictions_are_checked(
    arguments: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    out = np.full((2, 2), 7.0)
    with pytest.raises(error, match=message):
        mean_of_predictions(*arguments, **{"out": out, **settings})
    assert (out == 7).all()
