"""Arrays of more elements than 31 and 32 bits count. Zeros that are only read take no memory, however many they are."""

from math import log
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from tests.reference.philox import kept_reference, pack

pytestmark = pytest.mark.slow

PAST_31, PAST_32 = 2**31 + 37, 2**32 + 37
Array = np.ndarray[Any, Any]


def room(gigabytes: float) -> None:
    """Skip where the machine has less memory to spare."""
    with open("/proc/meminfo") as file:
        found = {line.split(":")[0]: int(line.split()[1]) for line in file}
    if found["MemAvailable"] < (gigabytes + 2) * 1e6:
        pytest.skip(f"needs {gigabytes} GB")


def halves(n: int, below: float, above: float) -> Array:
    """So many float16: the last 2^20 + 5 are `above`, and one in the middle; the rest `below`."""
    x = np.full(n, below, np.float16)
    x[-(2**20 + 5) :] = above
    x[n // 2] = above
    return x


def same(y: Array, below: float, above: float) -> bool:
    """Whether y is halves(len(y), below, above), to the bit."""
    middle, tail = len(y) // 2, len(y) - (2**20 + 5)
    bits, expected = y.view(np.uint16), np.array([below, above], np.float16).view(np.uint16)
    pieces = (bits[:middle], bits[middle + 1 : tail], bits[tail:], bits[middle : middle + 1])
    return all(
        (piece[start : start + 2**24] == value).all()
        for piece, value in zip(pieces, expected[[0, 0, 1, 1]], strict=True)
        for start in range(0, len(piece), 2**24)
    )


# ---- elements ----


def test_a_ufunc_in_place() -> None:
    room(9)
    x = halves(PAST_32, -1, 2)
    nf.relu(x, out=x)
    assert same(x, 0, 2)


def test_a_ufunc_of_two_arrays_and_a_parameter() -> None:
    room(9)
    dy = halves(PAST_31, -1, 2)
    nf.leaky_relu_backward(dy, np.broadcast_to(np.float16(-1), PAST_31), 0.5, out=dy)
    assert same(dy, -0.5, 1)


def test_a_prelu_of_rows() -> None:
    room(5)
    x = halves(2 * (PAST_31 // 2), -1, 2)
    nf.prelu(x.reshape(-1, 2), np.array([0.5, 0.5], np.float16), out=x.reshape(-1, 2))
    assert same(x, -0.5, 2)


def test_bits_of_a_mask() -> None:
    """Past 2^35 elements the lower word of Philox's counter overflows; past 2^32 the element's number does."""
    room(5)
    n = 2**35 + 256
    mask = nf.dropout_mask(n, 0.3, rng=7)
    for first in (0, 2**31, 2**32, n - 256):
        expected = nf.dropout_mask(256, 0.3, rng=7, offset=first)
        np.testing.assert_array_equal(mask[first // 8 : first // 8 + 32], expected)
    np.testing.assert_array_equal(mask[-32:], pack(kept_reference(7, 256, 0.3, n - 256)))


def test_dropout_and_its_gradient() -> None:
    room(10)
    x = np.full(PAST_32, 1, np.float16)
    y, mask = nf.dropout(x, 0.5, rng=3, out=x)
    assert mask is not None
    expected = nf.dropout_mask(37 + 64, 0.5, rng=3, offset=PAST_32 - 37 - 64)
    kept = np.unpackbits(expected, bitorder="little", count=37 + 64)
    np.testing.assert_array_equal(y[-37 - 64 :], 2 * kept)
    x.fill(1)
    nf.dropout_backward(x, mask, 0.5, out=x)
    np.testing.assert_array_equal(x[-37 - 64 :], 2 * kept)
    assert abs(np.count_nonzero(x[2**31 : 2**31 + 2**24]) / 2**24 - 0.5) < 1e-3


def test_random_numbers() -> None:
    room(9)
    x = nf.random.Philox(5).uniform(PAST_31)
    np.testing.assert_array_equal(x[-100:], nf.random.Philox(5, PAST_31 - 100).uniform(100))


# ---- rows ----


@pytest.mark.parametrize("n", [PAST_31, PAST_32])
def test_the_logarithm_of_a_sum(n: int) -> None:
    """Every term is the largest, and counted."""
    assert nf.logsumexp(np.zeros(n, np.float32)) == np.float32(log(n))
    assert nf.logsumexp(np.broadcast_to(np.float16(0), n)) == np.float16(log(n))


def test_softmax_of_float16_rows() -> None:
    room(5)
    x = np.zeros(PAST_31, np.float16)
    nf.log_softmax(x, out=x)
    assert (x[[0, 2**30, -1]] == np.float16(-log(PAST_31))).all()
    x.fill(-100)
    x[-1] = x[3] = 0
    nf.softmax(x, out=x)
    assert (x[[3, -1]] == 0.5).all()
    assert np.count_nonzero(x[::1021]) == 0
    x.fill(2**-20)
    nf.softmax_backward(x, np.broadcast_to(np.float16(2**-10), PAST_31), out=x)
    assert (x[[0, -1]] == np.float16(2**-10 * (2**-20 - PAST_31 * 2.0**-30))).all()


def test_many_rows() -> None:
    room(5)
    x = np.zeros((PAST_31, 1), np.float16)
    nf.softmax(x, out=x)
    assert same(x.reshape(-1), 1, 1)


def test_layer_norm() -> None:
    room(5)
    x = halves(PAST_31 // 2 * 2, 0, 0)
    x[: len(x) // 2] = 1
    nf.layer_norm(x.reshape(1, -1), out=x.reshape(1, -1))
    assert (x[[0, len(x) // 2 - 1]] == 1).all()
    assert (x[[len(x) // 2, -1]] == -1).all()


def test_a_sum_over_rows() -> None:
    room(9)
    dy = np.full((PAST_31, 1), 2.0**-24, np.float16)
    dx, dbias = nf.bias_relu_backward(dy, np.broadcast_to(np.float16(1), dy.shape), out=(dy, None))
    assert dbias[0] == 128
    assert dx[-1] == 2.0**-24


# ---- channels ----


@pytest.mark.parametrize("channels", [1, 2])
def test_batch_norm(channels: int) -> None:
    room(5)
    n = PAST_31 // 2 * 2
    x = np.zeros(n, np.float16)
    x[: n // 2] = 1
    laid = x.reshape(-1, channels)
    mean, var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    _, saved = nf.batch_norm(laid, None, None, mean, var, training=True, momentum=1.0, out=laid)
    np.testing.assert_allclose(saved.mean, 0.5, atol=1e-9)
    np.testing.assert_allclose(var, 0.25, rtol=1e-6)
    assert (x[[0, n // 2 - 1]] == 1).all()
    assert (x[[n // 2, -1]] == -1).all()


# ---- losses and parameters ----


def test_losses() -> None:
    room(9)
    zeros = np.zeros(PAST_31, np.float32)
    loss, dz = nf.mse_loss(zeros, np.broadcast_to(np.float32(1), PAST_31))
    assert loss == 1
    assert (dz[[0, 2**30, -1]] == np.float32(-2 / PAST_31)).all()
    labels = np.array([2**31 + 5])
    loss, dz = nf.softmax_cross_entropy(zeros[np.newaxis], labels, out=dz[np.newaxis])
    assert loss == pytest.approx(log(PAST_31), rel=1e-12)
    assert dz[0, 2**31 + 5] == np.float32(1 / PAST_31 - 1)
    assert dz[0, -1] == np.float32(1 / PAST_31)


def test_an_optimizers_step() -> None:
    """In one array and in a list, whose second array begins past 2^31; contiguous and not."""
    room(9)
    p = np.ones(PAST_31, np.float32)
    zeros = np.zeros(PAST_31, np.float32)
    nf.optim.SGD([p], lr=0.5, weight_decay=1.0).step([zeros])
    assert (p[[0, 2**30, -1]] == 0.5).all()
    nf.optim.SGD([p], lr=0.25).step([np.broadcast_to(np.float32(1), PAST_31)])
    assert (p[[0, 2**30, -1]] == 0.25).all()
    other = np.ones(1000, np.float32)
    nf.optim.SGD([p, other], lr=0.5, weight_decay=1.0).step([zeros, zeros[:1000]])
    assert (p[[0, 2**30, -1]] == 0.125).all()
    assert (other == 0.5).all()


def test_penalties() -> None:
    room(9)
    weight, gradient = np.zeros(PAST_31, np.float32), np.zeros(PAST_31, np.float32)
    weight[-1] = 3
    assert nf.penalties.l2([weight], 1.0, grads=[gradient]) == 4.5
    assert gradient[-1] == 3
    assert not gradient[:10].any()
