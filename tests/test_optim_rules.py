"""Rules with something of their own: averages, exact zeros, signs, norms of layers."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from optim_rules import Array, assert_same_arrays, draw, everything

EPS = float(np.finfo(np.float64).eps)


def test_the_average_of_asgd() -> None:
    w, (g, *_) = np.ones(5), draw(np.float64, 1)
    opt = nf.optim.ASGD([w], lr=0.1, lambd=0.1, t0=3)
    average = np.zeros(5)
    for t in range(1, 10):
        opt.step([g.ravel()[t : t + 5]])
        mu = 1 / max(1, t - 1 - 3)
        average += mu * (w - average)
        np.testing.assert_allclose(opt.state["ax"][0], average, rtol=20 * EPS)
        if t <= 5:  # until then it is the parameter, to the bit
            assert_same_bits(opt.state["ax"][0], w)


def test_an_l1_penalty_of_ftrl_makes_weights_zero() -> None:
    w = np.array([1.0, -1.0, 0.5])
    opt = nf.optim.Ftrl([w], lr=0.1, l1=2.0)
    for _ in range(20):
        opt.step([np.array([0.01, 1.0, -0.01])])
    assert (w == [0.0, w[1], 0.0]).all()
    assert w[1] < 0


def test_ftrl_without_gradients_is_zero_and_not_nan() -> None:
    w = np.ones(2)
    nf.optim.Ftrl([w], initial_accumulator_value=0.0).step([np.zeros(2)])
    np.testing.assert_array_equal(w, 0)


def test_ftrl_needs_a_rate() -> None:
    opt = nf.optim.Ftrl([np.ones(2)], lr=0.0)
    before = everything(opt)
    with pytest.raises(ValueError, match="lr must be positive for Ftrl"):
        opt.step([np.ones(2)])
    assert_same_arrays(everything(opt), before)


def test_signs_of_rprop_do_not_underflow() -> None:
    w = np.zeros(2, np.float32)
    opt = nf.optim.Rprop([w], lr=1.0)
    for _ in range(2):
        opt.step([np.array([1e-30, -1e-30], np.float32)])
    np.testing.assert_allclose(w, [-2.2, 2.2], rtol=1e-6)


def test_a_nan_reaches_the_parameter() -> None:
    for kind in nf.optim.rules.__all__:
        w = np.ones(20, np.float32)
        g = np.full(20, 0.5, np.float32)
        g[7] = np.nan
        getattr(nf.optim, kind)([w]).step([g])
        assert np.isnan(w[7])
        if kind not in ("LAMB", "LARS"):  # whose norms are of all elements
            assert np.isfinite(np.delete(w, 7)).all()


@pytest.mark.parametrize("kind", ["LAMB", "LARS"])
@pytest.mark.parametrize("n", [1000, 5000, 100_003])
def test_norms_do_not_depend_on_threads_isa_or_layout(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    w, g = rng.standard_normal((2, n)).astype(np.float32)

    def run(w: Array, g: Array) -> Array:
        opt = getattr(nf.optim, kind)([w], weight_decay=0.1)
        for _ in range(3):
            opt.step([g])
        return w

    expected = run(w.copy(), g)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(run(w.copy(), g), expected)
    for name in layouts(w):
        assert_same_bits(run(layouts(w)[name], g), expected)


def steps_with_squares(squares: Array) -> Array:
    """Steps of Adam, whose average of squares this is, and 1 the average of gradients."""
    w = np.zeros_like(squares)
    opt = nf.optim.Adam([w], lr=1.0, betas=(0.5, 0.5), bias_correction=False)
    opt.step([w.copy()])
    opt.state["exp_avg"][0][:] = 2
    opt.state["exp_avg_sq"][0][:] = 2 * squares
    opt.step([np.zeros_like(squares)])
    return w


@pytest.mark.parametrize("block", range(16))
def test_roots_have_the_bits_of_every_instruction_set(block: int) -> None:
    """AVX-512 makes them of products: of each significand, in both kinds of binades, and where the divider is asked."""
    bits = np.arange(1 << 20, dtype=np.uint32) + np.uint32(0x3F800000 + (block << 20))
    ends = np.array([0, 1, 0x18800000, 0x7F000000, 0x7F800000, 0x7FC00000], np.uint32)
    around = np.concatenate([ends, ends[1:4] - np.uint32(1), ends[1:4] + np.uint32(1)])
    squares = np.concatenate([bits, np.repeat(around, 16), around]).view(np.float32)
    expected = None
    for isa in SAME_BITS_ISAS:
        with forced(isa=isa), np.errstate(over="ignore"):
            steps = steps_with_squares(squares)
        expected = steps if expected is None else expected
        assert_same_bits(steps, expected)
    root = np.sqrt(squares[: 1 << 20].astype(np.float64))
    np.testing.assert_allclose(steps[: 1 << 20], -1 / (root + 1e-8), rtol=2e-7)


@pytest.mark.parametrize("kind", ["LAMB", "LARS"])
def test_a_norm_of_zero_trusts_the_step(kind: str) -> None:
    zeros, ones = np.zeros(3), np.ones(3)
    settings = {"lr": 0.1, "weight_decay": 0.0}
    getattr(nf.optim, kind)([zeros], **settings).step([np.array([1.0, 0.0, 0.0])])
    assert zeros[0] == pytest.approx(-0.1, rel=1e-5)
    getattr(nf.optim, kind)([ones], **settings).step([np.zeros(3)])
    np.testing.assert_array_equal(ones, 1)


def test_norms_are_of_each_array() -> None:
    """A layer of large weights takes large steps."""
    small, large = np.full(4, 0.1), np.full(4, 10.0)
    nf.optim.LAMB([small, large], lr=0.1, weight_decay=0.0).step([np.ones(4), np.ones(4)])
    np.testing.assert_allclose(small, 0.09)
    np.testing.assert_allclose(large, 9.0)


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("Rprop", {"etas": (0.5, 0.9)}, ValueError, "etas must be one number in"),
        ("Rprop", {"etas": 0.5}, TypeError, "etas must be two numbers, got 0.5"),
        ("Rprop", {"step_sizes": (2.0, 1.0)}, ValueError, "step_sizes must be two numbers that do"),
        ("Rprop", {"step_sizes": ("a", 1.0)}, TypeError, r"step_sizes\[0\] must be a real number"),
        ("Adan", {"betas": (0.1, 0.2, 0.3)}, TypeError, "betas must be two numbers"),
        ("Adan", {"beta3": 1.0}, ValueError, r"beta3 must be in \[0, 1\)"),
        ("Ftrl", {"l1": -1.0}, ValueError, "l1 must not be negative"),
        ("LARS", {"trust_coefficient": -1.0}, ValueError, "trust_coefficient must not be negative"),
        ("ASGD", {"alpha": 1.5}, ValueError, r"alpha must be in \[0, 1\)"),
        ("ASGD", {"convention": "optax"}, ValueError, "convention 'optax' has no ASGD"),
    ],
)
def test_numbers_are_checked(
    kind: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(nf.optim, kind)([np.ones((3, 3))], **settings)
