"""Speed as a promise, with room for a noisy machine: what breaks one of these is no noise.

A fault is there every time, a busy machine is not: what fails is measured again, a few times.
"""

from collections.abc import Callable

import pytest

import nnfast as nf
from bench import calls, neighbours, scaling, training
from bench.cases import CASES

ATTEMPTS = 4


def first_good(measure: Callable[[], float], good: Callable[[float], bool]) -> float:
    """The first measurement that is good, or the last one."""
    for _ in range(ATTEMPTS):
        value = measure()
        if good(value):
            break
    return value


def assert_at_most(measure: Callable[[], float], most: float) -> None:
    assert first_good(measure, lambda value: value <= most) <= most


def assert_at_least(measure: Callable[[], float], least: float) -> None:
    assert first_good(measure, lambda value: value >= least) >= least


@pytest.mark.parametrize("n", neighbours.SIZES)
@pytest.mark.parametrize("name", CASES)
def test_kernels_and_matrix_products_do_not_disturb_each_other(name: str, n: int) -> None:
    case = CASES[name](n)
    assert_at_most(lambda: neighbours.measure(case, rounds=30).kernel_ratio, 2)
    assert_at_most(lambda: neighbours.measure(case, rounds=30).product_ratio, 1.5)


@pytest.mark.parametrize(("name", "least"), [("tanh", 1.02), ("adam", 0.9)])
def test_large_arrays_gain_from_a_second_core(name: str, least: float) -> None:
    # Memory may be what bounds Adam; a machine with one core has nothing to gain.
    least = least if nf.get_num_threads() > 1 else 0.8
    assert_at_least(lambda: scaling.speedup(CASES[name], 10**7, rounds=7), least)


def test_call_costs_what_numpys_does() -> None:
    assert_at_most(lambda: calls.call_ratio(rounds=50), 2)


def test_import_is_quick() -> None:
    assert_at_most(lambda: calls.import_ms(rounds=5), 60)


def test_training_is_faster_than_plain_numpy() -> None:
    assert_at_least(lambda: training.compare("mnist", epochs=3)["ratio"], 1.3)
