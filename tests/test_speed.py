"""Speed as a promise, with room for a noisy machine: what breaks one of these is no noise."""

import pytest

import nnfast as nf
from bench import calls, neighbours, scaling, training
from bench.cases import CASES


@pytest.mark.parametrize("n", neighbours.SIZES)
@pytest.mark.parametrize("name", CASES)
def test_kernels_and_matrix_products_do_not_disturb_each_other(name: str, n: int) -> None:
    row = neighbours.measure(CASES[name](n), rounds=30)
    assert row.kernel_ratio <= 2
    assert row.product_ratio <= 1.5


@pytest.mark.parametrize(("name", "least"), [("tanh", 1.05), ("adam", 0.9)])
def test_large_arrays_gain_from_a_second_core(name: str, least: float) -> None:
    # Memory may be what bounds Adam. Two virtual processors may share a core for a while: 1.13 for tanh was seen then.
    speedup = scaling.speedup(CASES[name], 10**7, rounds=7)
    assert speedup > (least if nf.get_num_threads() > 1 else 0.8)


def test_call_costs_what_numpys_does() -> None:
    assert calls.call_ratio(rounds=50) < 2


def test_import_is_quick() -> None:
    assert calls.import_ms(rounds=5) < 60


def test_training_is_faster_than_plain_numpy() -> None:
    assert training.compare("mnist", epochs=3)["ratio"] > 1.3
