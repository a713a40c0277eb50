"""Batches: every row once, an order that only the seed decides, buffers, transforms, the thread that makes them."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits, layouts
from nnfast import _core
from nnfast._testing import forced
from test_runtime import python

Array = NDArray[Any]

X = np.arange(60.0).reshape(20, 3)
LABELS = np.arange(20)
SEEDS = st.integers(0, 2**64 - 1)
DTYPES = [np.dtype(code) for code in ("?", "b", "B", "h", "i", "l", "e", "f", "d", "D", "g")]
DTYPES += [np.dtype(name) for name in (">f4", "M8[s]", "U3", "S5", "i2, f8", "O", "V3")]


def rows(n: int, inner: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Rows that differ, as far as the dtype has as many values."""
    count = int(np.prod(inner))
    numbers = np.arange(n * count) % 251
    made = numbers.astype("i8" if dtype.kind in "VM" else dtype)
    if dtype.names:
        made = np.zeros(n * count, dtype)
        made["f0"], made["f1"] = numbers, -numbers
    return made.astype(dtype).reshape(n, *inner)


def same(xb: Array, rng: np.random.Generator) -> Array:
    return xb


def noisy(xb: Array, rng: np.random.Generator) -> Array:
    return nf.augmentation.random_noise(xb, 0.5, rng=rng, out=xb)


def copies(batches: Any) -> list[Any]:
    """All batches, each copied before the next is asked for."""
    return [
        tuple(part.copy() for part in batch) if isinstance(batch, tuple) else batch.copy()
        for batch in batches
    ]


def assert_same_batches(actual: list[Any], expected: list[Any]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        for part, other in zip(
            *(batch if isinstance(batch, tuple) else (batch,) for batch in (a, b)), strict=True
        ):
            assert_same_bits(part, other)


def makers() -> list[threading.Thread]:
    """The threads that make batches."""
    return [thread for thread in threading.enumerate() if thread.name == "nnfast.batches"]


def assert_no_maker() -> None:
    gc.collect()
    end = time.monotonic() + 10
    while makers():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert_no_maker()


# ---- what an epoch is ----


@settings(max_examples=150)
@given(st.data())
def test_every_row_appears_once(data: st.DataObject) -> None:
    n, size = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 45))
    inner = data.draw(st.sampled_from([(), (1,), (3,), (784,), (2, 3, 5), (4, 0)]))
    x = rows(n, inner, data.draw(st.sampled_from(DTYPES)))
    kinds = layouts(x) if x.dtype.kind not in "OV" and x.dtype.itemsize > 0 else {"plain": x}
    given_x = kinds[data.draw(st.sampled_from(sorted(kinds)))]
    shuffle, drop_last, seed = data.draw(st.booleans()), data.draw(st.booleans()), data.draw(SEEDS)
    y = np.arange(n * 2).reshape(n, 2)
    found = nf.batches(
        given_x,
        y,
        batch_size=size,
        rng=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        transform=data.draw(st.sampled_from([None, same])),
        copy=data.draw(st.booleans()),
    )
    with nf.num_threads(data.draw(st.sampled_from([1, 2, 7]))), forced(grain=1):
        batches = copies(found)
    whole, rest = divmod(n, size)
    sizes = [size] * whole + [rest] * (rest > 0 and not drop_last)
    assert [len(xb) for xb, _ in batches] == sizes
    assert len(found) == len(sizes)
    order = np.concatenate([yb[:, 0] // 2 for _, yb in batches]) if sizes else np.arange(0)
    if not shuffle:
        np.testing.assert_array_equal(order, np.arange(sum(sizes)))
    assert len(set(order.tolist())) == sum(sizes)
    for xb, yb in batches:
        assert xb.flags.c_contiguous
        assert xb.flags.writeable
        assert xb.dtype == x.dtype
        np.testing.assert_array_equal(yb, y[yb[:, 0] // 2])
        np.testing.assert_array_equal(xb, x[yb[:, 0] // 2])


@given(SEEDS, st.integers(1, 30), st.integers(1, 12))
def test_the_seed_alone_decides_on_the_order(seed: int, n: int, size: int) -> None:
    x = np.arange(n)

    def order(array: Any, **options: Any) -> Array:
        batches = copies(nf.batches(array, batch_size=size, rng=seed, **options))
        return np.concatenate([np.ravel(xb[..., 0] if xb.ndim > 1 else xb) for xb in batches])

    expected = order(x)
    np.testing.assert_array_equal(order(x.astype(np.float32)), expected)
    np.testing.assert_array_equal(order(np.stack([x] * 5, axis=1)), expected)
    np.testing.assert_array_equal(order(x, transform=same), expected)
    np.testing.assert_array_equal(order(x.tolist(), copy=True), expected)


def test_epochs_differ_and_their_sequence_does_not() -> None:
    """An int makes a generator once, as in layers."""
    first, again = (nf.batches(X, batch_size=6, rng=7) for _ in range(2))
    epochs = [copies(first) for _ in range(3)]
    for epoch in epochs:
        assert_same_batches(copies(again), epoch)
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    assert not np.array_equal(epochs[1][0], epochs[2][0])


@pytest.mark.parametrize("transform", [None, noisy])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_generator_is_advanced_once_when_an_iteration_starts(
    transform: Any, shuffle: bool
) -> None:
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    batches = nf.batches(X, LABELS, batch_size=6, rng=rng, shuffle=shuffle, transform=transform)
    assert rng.bit_generator.state == other.bit_generator.state
    iterator = iter(batches)
    seed = other.bit_generator.random_raw()
    assert rng.bit_generator.state == other.bit_generator.state
    epoch = copies(iterator)
    assert rng.bit_generator.state == other.bit_generator.state
    of_seed = nf.batches(
        X, LABELS, batch_size=6, rng=np.random.default_rng(3), shuffle=shuffle, transform=transform
    )
    assert_same_batches(copies(of_seed), epoch)
    assert isinstance(seed, int)


@pytest.mark.parametrize(
    "make",
    [np.random.SeedSequence, np.random.RandomState, np.random.PCG64, np.random.default_rng],
)
def test_every_source_of_randomness(make: Callable[[int], Any]) -> None:
    a, b = (nf.batches(X, batch_size=20, rng=make(1)) for _ in range(2))
    one, two = copies(a), copies(a)
    assert_same_batches(copies(b), one)
    assert_same_batches(copies(b), two)
    assert not np.array_equal(one[0], two[0])


def test_without_a_seed_every_epoch_is_another() -> None:
    x = np.arange(50)
    one, two = (next(iter(nf.batches(x, batch_size=50))) for _ in range(2))
    assert not np.array_equal(one, two)


# ---- where rows come from ----


@pytest.mark.parametrize("chunks", [20, 7, (3, 1)])
def test_a_dask_array_gives_the_batches_of_one_in_memory(chunks: Any) -> None:
    expected = copies(nf.batches(X, LABELS, batch_size=6, rng=1))
    for x, y in (
        (da.from_array(X, chunks=chunks), da.from_array(LABELS, chunks=4)),
        (X, da.from_array(LABELS, chunks=9)),
        (da.from_array(X, chunks=chunks), LABELS),
    ):
        assert_same_batches(copies(nf.batches(x, y, batch_size=6, rng=1)), expected)


def test_what_is_done_to_a_batch_does_not_reach_a_dask_array() -> None:
    x = da.from_array(X.copy(), chunks=20).persist()
    for xb in nf.batches(x, batch_size=20, shuffle=False):
        xb[...] = 0
    np.testing.assert_array_equal(x.compute(), X)


def test_a_memory_map_is_read_by_batches(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = nf.batches(x, LABELS, batch_size=6, rng=1)
    assert_same_batches(copies(found), copies(nf.batches(X, LABELS, batch_size=6, rng=1)))


@pytest.mark.parametrize("shuffle", [True, False])
def test_what_is_done_to_a_batch_does_not_reach_x(shuffle: bool) -> None:
    x, y = X.copy(), LABELS.copy()
    for xb, yb in nf.batches(x, y, batch_size=20, shuffle=shuffle):
        xb[...], yb[...] = -1, -1
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, LABELS)


def test_rows_of_an_index_that_is_out_of_range_are_refused() -> None:
    y = np.zeros((2, 3))
    for bad in ([0, 20], [-1, 0]):
        with pytest.raises(IndexError, match=r"indices must be in \[0, 20\)"):
            _core.take_rows(X, np.array(bad), y)
    for out in (np.zeros((3, 3)), np.zeros((2, 4)), np.zeros((2, 3), "f4"), np.zeros((3, 2)).T):
        with pytest.raises(ValueError, match="y must"):
            _core.take_rows(X, np.array([0, 1]), out)
    assert not y.any()


# ---- how long a batch is valid ----


@pytest.mark.parametrize("transform", [None, same])
def test_a_batch_is_valid_until_the_second_next_is_asked_for(transform: Any) -> None:
    x, y = np.arange(300.0).reshape(100, 3), np.arange(100)
    epochs = nf.batches(x, y, batch_size=7, rng=0, transform=transform)
    overwritten = 0
    before: list[Any] = []
    for _ in range(3):  # from one epoch to the next, too
        for xb, yb in epochs:
            time.sleep(0.001)  # in which a thread makes the next
            before.append((xb, yb, xb.copy(), yb.copy()))
            for array, labels, kept, kept_labels in before[-2:]:
                np.testing.assert_array_equal(array, kept)
                np.testing.assert_array_equal(labels, kept_labels)
            overwritten += len(before) > 3 and not np.array_equal(before[-4][0], before[-4][2])
    assert overwritten > 20  # memory is reused


@pytest.mark.parametrize("transform", [None, same])
def test_copies_stay_valid(transform: Any) -> None:
    batches = list(nf.batches(X, LABELS, batch_size=6, rng=0, transform=transform, copy=True))
    expected = copies(nf.batches(X, LABELS, batch_size=6, rng=0, transform=transform))
    assert_same_batches(batches, expected)
    assert not any(np.shares_memory(a[0], b[0]) for a in batches for b in batches if a is not b)


def test_iterators_of_one_object_do_not_share_memory() -> None:
    for transform in (None, same):
        epochs = nf.batches(X, batch_size=6, rng=0, transform=transform)
        copies(epochs)
        a, b = iter(epochs), iter(epochs)
        one = next(a)
        kept = one.copy()
        other = next(b)
        next(b)
        next(b)
        assert not np.shares_memory(one, other)
        np.testing.assert_array_equal(one, kept)


def test_one_object_in_many_threads() -> None:
    """Each iterates for itself."""
    epochs = nf.batches(X, LABELS, batch_size=3, rng=0)
    found: list[Array] = []

    def work() -> None:
        for _ in range(20):
            batches = copies(epochs)
            found.append(np.concatenate([yb for _, yb in batches]))
            for xb, yb in batches:
                np.testing.assert_array_equal(xb, X[yb])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for order in found:
        np.testing.assert_array_equal(np.sort(order), LABELS)


# ---- transforms ----


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=20)
def test_a_transform_draws_by_seed_and_batch(seed: int, size: int) -> None:
    def draw(xb: Array, rng: np.random.Generator) -> Array:
        return np.concatenate([xb, rng.random((len(xb), 2))], axis=1)

    def draw_after_others(xb: Array, rng: np.random.Generator) -> Array:
        made = draw(xb, rng)
        rng.random(len(made))
        return made

    expected = copies(nf.batches(X, batch_size=size, rng=seed, transform=draw))
    for threads in (1, 2):
        with nf.num_threads(threads):
            found = nf.batches(X, batch_size=size, rng=seed, transform=draw_after_others)
            assert_same_batches(copies(found), expected)
    draws = np.concatenate([batch[:, 3:] for batch in expected])
    assert len(np.unique(draws)) == draws.size


def test_functions_of_augmentation_as_a_transform() -> None:
    images = np.random.default_rng(0).random((10, 1, 8, 8), np.float32)

    def cropped(xb: Array, rng: np.random.Generator) -> Array:
        nf.augmentation.random_flip(xb, rng=rng, out=xb)
        return nf.augmentation.random_crop(xb, 6, rng=rng)

    found = copies(nf.batches(images, np.arange(10), batch_size=4, rng=0, transform=cropped))
    assert [xb.shape for xb, _ in found] == [(4, 1, 6, 6), (4, 1, 6, 6), (2, 1, 6, 6)]
    for xb, yb in found:
        for image, i in zip(xb, yb, strict=True):
            candidates = np.concatenate([images[i], images[i][:, :, ::-1]])
            windows = np.lib.stride_tricks.sliding_window_view(candidates, (6, 6), axis=(1, 2))
            assert (windows == image[0]).all(axis=(-2, -1)).any()


def test_the_next_batch_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def noted(xb: Array, rng: np.random.Generator) -> Array:
        begun[int(xb[0, 0]) // 15].set()
        return xb

    batches = iter(nf.batches(X, batch_size=5, shuffle=False, transform=noted))
    next(batches)
    assert begun[1].wait(10)
    assert not begun[2].wait(0.05)  # whose memory the caller has
    next(batches)
    assert begun[2].wait(10)


def failing_at(k: int, error: BaseException) -> Callable[[Array, np.random.Generator], Array]:
    def transform(xb: Array, rng: np.random.Generator) -> Array:
        if xb[0, 0] == 15 * k:
            raise error
        return xb

    return transform


@pytest.mark.parametrize("k", range(4))
def test_an_error_of_transform_appears_at_its_batch(k: int) -> None:
    transform = failing_at(k, OSError("no such disk"))
    batches = iter(nf.batches(X, batch_size=5, shuffle=False, transform=transform))
    for _ in range(k):
        next(batches)
    with pytest.raises(OSError, match="no such disk"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)
    assert_no_maker()


def test_an_error_of_dask_appears_at_its_batch() -> None:
    def broken(block: Array) -> Array:
        if block.size and block[0, 0] == 15:
            raise OSError("no such disk")
        return block

    x = da.from_array(X, chunks=(5, 3)).map_blocks(broken, dtype=X.dtype)
    batches = iter(nf.batches(x, batch_size=5, shuffle=False))
    np.testing.assert_array_equal(next(batches), X[:5])
    with pytest.raises(OSError, match="no such disk"):
        next(batches)


def test_stop_iteration_of_a_transform_is_no_end() -> None:
    batches = nf.batches(X, batch_size=5, transform=failing_at(0, StopIteration()), shuffle=False)
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(iter(batches))


def test_a_transform_must_return_the_batch() -> None:
    def forgets(xb: Array, rng: np.random.Generator) -> None:
        xb *= 2

    with pytest.raises(TypeError, match="transform must return the batch, got None"):
        next(iter(nf.batches(X, batch_size=5, transform=forgets)))


def test_no_transform_without_rows() -> None:
    seen: list[int] = []

    def noted(xb: Array, rng: np.random.Generator) -> Array:
        seen.append(len(xb))
        return xb

    assert copies(nf.batches(X[:0], batch_size=5, transform=noted)) == []
    assert copies(nf.batches(X[:4], batch_size=5, drop_last=True, transform=noted)) == []
    assert_no_maker()
    assert seen == []


def test_a_transform_finds_the_callers_settings() -> None:
    threads: list[int] = []

    def overflows(xb: Array, rng: np.random.Generator) -> Array:
        threads.append(nf.get_num_threads())
        return np.multiply(xb, 1e300, out=xb)

    with np.errstate(over="raise"), nf.num_threads(1), pytest.raises(FloatingPointError):
        copies(nf.batches(X + 1e10, batch_size=5, transform=overflows))
    with np.errstate(over="ignore"), nf.num_threads(2):
        copies(nf.batches(X + 1e10, batch_size=20, transform=overflows))
    assert threads[0] == 1
    assert threads[-1] == min(2, threads[-1])


# ---- the thread ----


def begun() -> Iterator[Any]:
    """An iterator in its middle."""
    batches = iter(nf.batches(X, batch_size=5, transform=same))
    next(batches)
    assert makers()
    return batches


def test_a_thread_ends_with_the_last_batch() -> None:
    batches = iter(nf.batches(X, batch_size=5, transform=same))
    for _ in range(4):
        next(batches)
    assert_no_maker()  # before the end is asked for


def test_rows_in_memory_take_no_thread() -> None:
    batches = iter(nf.batches(X, LABELS, batch_size=5))
    next(batches)
    assert not makers()


@pytest.mark.parametrize("how", ["del", "close", "break", "cycle", "error", "not begun"])
def test_an_abandoned_iterator_ends_its_thread(how: str) -> None:
    if how == "break":
        for _ in nf.batches(X, batch_size=5, transform=same):
            break
    elif how == "error":
        with pytest.raises(ZeroDivisionError):
            [1 / 0 for _ in nf.batches(X, batch_size=5, transform=same)]
    elif how == "not begun":
        iter(nf.batches(X, batch_size=5, transform=same))
    else:
        batches = begun()
        if how == "cycle":
            cycle = [batches]
            cycle.append(cycle)  # type: ignore[arg-type]
            del cycle
        if how == "close":
            batches.close()  # type: ignore[attr-defined]
            assert not makers()
        del batches
    assert_no_maker()


def test_a_collected_iterator_does_not_wait_for_long() -> None:
    """Its thread may wait for a lock that who collects it holds."""
    held = threading.Lock()

    def waits(xb: Array, rng: np.random.Generator) -> Array:
        if xb[0, 0] > 0:
            with held:
                pass
        return xb

    batches = iter(nf.batches(X, batch_size=5, shuffle=False, transform=waits))
    next(batches)
    with held:
        begin = time.monotonic()
        del batches
        assert time.monotonic() - begin < 8


@pytest.mark.parametrize("where", ["global", "in a generator", "at exit"])
def test_the_interpreter_ends_with_an_iterator_in_its_middle(where: str) -> None:
    code = f"""
import atexit, numpy as np, nnfast as nf
x = np.ones((4000, 784), np.float32)
def noisy(xb, rng):
    return nf.augmentation.random_noise(xb, 0.1, rng=rng)
def begun():
    batches = iter(nf.batches(x, batch_size=400, transform=noisy))
    next(batches)
    return batches
def use():
    yield from nf.batches(x, batch_size=400, transform=noisy)
if {where!r} == "at exit":
    atexit.register(begun)
elif {where!r} == "global":
    batches = begun()
else:
    batches = use()
    next(batches)
print("done")
"""
    result = python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_without_threads_the_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = copies(nf.batches(X, LABELS, batch_size=6, rng=0, transform=noisy))

    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    assert_same_batches(
        copies(nf.batches(X, LABELS, batch_size=6, rng=0, transform=noisy)), expected
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # of threads, from Python 3.12 on
@pytest.mark.parametrize("transform", [None, noisy])
def test_a_forked_child_goes_on_with_the_same_batches(transform: Any) -> None:
    x = np.random.default_rng(0).standard_normal((600, 50))

    def epochs() -> Any:
        return nf.batches(x, np.arange(600), batch_size=50, rng=0, transform=transform)

    expected = copies(epochs())
    batches = iter(epochs())
    found = copies(next(batches) for _ in range(3))
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            assert_same_batches(found + copies(batches), expected)
            assert_same_batches(copies(epochs()), expected)  # with a thread of its own
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert_same_batches(found + copies(batches), expected)


# ---- errors ----


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an int, got float"),
        ({"y": np.arange(19)}, ValueError, "y must have 20 rows, as X, got 19"),
        ({"y": 3}, ValueError, r"y must have an axis of rows, got an array of shape \(\)"),
        ({"X": 1.0}, ValueError, r"X must have an axis of rows, got an array of shape \(\)"),
        ({"X": np.ma.masked_less(X, 3)}, TypeError, r"X must be .* pass X.filled\(value\)"),
        ({"y": np.ma.masked_less(LABELS, 3)}, TypeError, r"y must be .* pass y.filled\(value\)"),
        ({"transform": "flip"}, TypeError, "transform must be a function or None, got str"),
        ({"rng": -1}, ValueError, r"rng must be in \[0, 2\*\*64\), got -1"),
        ({"rng": "seed"}, TypeError, "rng must be an int, .* got str"),
    ],
)
def test_errors_name_the_argument(
    changed: dict[str, Any], kind: type[Exception], message: str
) -> None:
    arguments = {"X": X, "y": LABELS, "batch_size": 4} | changed
    with pytest.raises(kind, match=message):
        nf.batches(**arguments)


def test_a_dask_array_of_unknown_length_is_refused() -> None:
    x = da.from_array(X, chunks=(5, 3))
    unknown = x[x[:, 0] > 3]
    with pytest.raises(ValueError, match=r"X must have a known shape.*compute_chunk_sizes"):
        nf.batches(unknown, batch_size=4)
    with pytest.raises(TypeError, match="X must be a dask.array.Array, got list"):
        nf.batches(x.to_delayed().ravel().tolist(), batch_size=4)
