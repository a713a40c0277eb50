"""Schedules: values beside references and PyTorch, ends and joints, immutability, the plateau, errors, the page."""

import json
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from itertools import accumulate, pairwise, repeat
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from nnfast import schedules
from nnfast.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    OneCycle,
    Polynomial,
    ReduceOnPlateau,
    Scaled,
    Schedule,
    Sequential,
    Step,
    Warmup,
    picture,
    values,
)
from test_examples import examples

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/schedules.md").read_text()
STEPS = 300
FLAT = Constant(1.0)
Rates = NDArray[np.float64]


# ---- values: references that multiply, add and join where the schedules have a formula ----


def products(lr: float, factors: list[float]) -> Rates:
    """lr, then times one factor a step."""
    return np.array(list(accumulate([lr, *factors[: STEPS - 1]], mul)))


def then(*parts: Rates) -> Rates:
    """One after another; the last value stays."""
    joined = np.concatenate(parts)[:STEPS]
    return np.pad(joined, (0, STEPS - len(joined)), mode="edge")


def half_wave(lr: float, end: float, n: int) -> Rates:
    """The n steps of a cosine's fall, without its end."""
    return end + (lr - end) * (1 + np.cos(np.pi * np.arange(n) / n)) / 2


def transformer(d_model: int, warmup: int) -> Rates:
    """As in the paper, section 5.3."""
    number = np.arange(1.0, STEPS + 1)
    return d_model**-0.5 * np.minimum(number**-0.5, number * warmup**-1.5)


def through(knots: list[tuple[float, float]], *, smooth: bool) -> Rates:
    """Straight from knot to knot, or by half waves."""
    steps, rates = np.array(knots).T
    t = np.minimum(np.arange(STEPS), steps[-1])
    phase = np.interp(t, steps, np.arange(len(steps)))
    share = phase % 1
    share = (1 - np.cos(np.pi * share)) / 2 if smooth else share
    place = np.minimum(phase.astype(int), len(steps) - 2)
    share[phase == len(steps) - 1] = 1
    return rates[place] * (1 - share) + rates[place + 1] * share


def restarts_in_keras(
    lr: float, first: int, t_mul: float, m_mul: float, alpha: float
) -> Callable[[int], float]:
    """CosineDecayRestarts: the cycle's number by a logarithm."""

    def rate(step: int) -> float:
        done = step / first
        number = math.floor(math.log(1 - done * (1 - t_mul)) / math.log(t_mul) + 1e-12)
        done = (done - (1 - t_mul**number) / (1 - t_mul)) / t_mul**number
        wave = 0.5 * m_mul**number * (1 + math.cos(math.pi * done))
        return lr * ((1 - alpha) * wave + alpha)

    return rate


def polynomial_in_keras(lr: float, n: int, end: float, power: float) -> Rates:
    """PolynomialDecay with cycle."""
    length = n * np.maximum(1, np.ceil(T / n))
    return (lr - end) * (1 - T / length) ** power + end


T = np.arange(STEPS)
FALLS = [0.3 if t in (20, 70, 71) else 1.0 for t in range(1, STEPS)]

VALUES: list[tuple[Schedule, Rates]] = [
    (Constant(0.1), np.full(STEPS, 0.1)),
    (Step(0.1, 30), products(0.1, [0.1 if t % 30 == 0 else 1.0 for t in range(1, STEPS)])),
    (Step(0.1, 1, gamma=0.9), products(0.1, [0.9] * STEPS)),
    (MultiStep(0.1, [20, 70, 71], gamma=0.3), products(0.1, FALLS)),
    (MultiStep(0.1, []), np.full(STEPS, 0.1)),
    (Exponential(0.1, 0.98), products(0.1, [0.98] * STEPS)),
    (Exponential(1e-5, 1.05), products(1e-5, [1.05] * STEPS)),
    (Step(0.1, 30, 0.5, min_lr=0.03), np.repeat([0.1, 0.05, *[0.03] * 8], 30)),
    (MultiStep(0.1, [20, 70], 0.5, min_lr=0.03), then(np.repeat([0.1, 0.05, 0.03], [20, 50, 1]))),
    (Exponential(0.1, 0.98, min_lr=0.05), np.maximum(0.05, products(0.1, [0.98] * STEPS))),
    (InverseTime(0.1, 0.02), 1 / (10 + 0.2 * T)),
    (InverseTime(0.1, 0.02, 7, 0.08), np.maximum(0.08, 1 / (10 + 0.2 * np.floor(T / 7)))),
    (
        InverseSqrt((512 * 40) ** -0.5, 40, 0.004),
        np.where(T < 39, transformer(512, 40), np.maximum(0.004, transformer(512, 40))),
    ),
    (InverseSqrt((512 * 40) ** -0.5, 40), transformer(512, 40)),
    (InverseSqrt(64**-0.5, 1), transformer(64, 1)),
    (Linear(0.1, 0.02, 100), then(np.linspace(0.1, 0.02, 101))),
    (Linear(0.0, 0.3, 7), then(np.linspace(0, 0.3, 8))),
    (Polynomial(0.1, 100), then(np.linspace(0.1, 0, 101))),
    (Polynomial(0.1, 90, 2.0, 0.01), then(0.01 + 0.09 * np.linspace(1, 0, 91) ** 2)),
    (Polynomial(0.1, 90, 0.5), then(0.1 * np.sqrt(np.linspace(1, 0, 91)))),
    (Polynomial(0.1, 40, 2.0, 0.01, cycle=True), polynomial_in_keras(0.1, 40, 0.01, 2.0)),
    (Cosine(0.1, 40, 0.01, 3.0), then(0.01 + 0.09 * half_wave(1, 0, 40) ** 3, np.full(1, 0.01))),
    (Cosine(0.1, 100), then(half_wave(0.1, 0, 100), np.zeros(1))),
    (Cosine(0.1, 33, eta_min=0.01), then(half_wave(0.1, 0.01, 33), np.full(1, 0.01))),
    (CosineRestarts(0.1, 25), then(*repeat(half_wave(0.1, 0, 25), 12))),
    (
        CosineRestarts(0.1, 10, T_mult=2, eta_min=0.01),
        then(*[half_wave(0.1, 0.01, n) for n in (10, 20, 40, 80, 160)]),
    ),
    (
        CosineRestarts(0.1, 1, T_mult=3),
        then(*[half_wave(0.1, 0, n) for n in (1, 3, 9, 27, 81, 243)]),
    ),
    (
        CosineRestarts(0.1, 10, T_mult=2, lr_mult=0.5),
        then(*[half_wave(0.1 / 2**k, 0, 10 * 2**k) for k in range(5)]),
    ),
    (
        CosineRestarts(0.1, 7, 1.5, 0.01, 0.8),
        values(restarts_in_keras(0.1, 7, 1.5, 0.8, 0.1), STEPS),
    ),
    (
        Cyclic(0.1, 0.5, 10, 5),
        np.tile([*np.linspace(0.1, 0.5, 11), *np.linspace(0.5, 0.1, 6)[1:-1]], 20),
    ),
    (
        Cyclic(0.1, 0.5, 30, mode="triangular2"),
        through(
            [(30 * k, 0.1 if k % 2 == 0 else 0.1 + 0.4 / 2 ** (k // 2)) for k in range(11)],
            smooth=False,
        ),
    ),
    (OneCycle(0.5, 100), through([(0, 0.02), (29, 0.5), (99, 2e-6)], smooth=True)),
    (
        OneCycle(0.5, 250, 0.25, "linear", 10.0, 100.0),
        through([(0, 0.05), (61.5, 0.5), (249, 5e-4)], smooth=False),
    ),
    (
        OneCycle(0.5, 200, 0.4, three_phase=True),
        through([(0, 0.02), (79, 0.5), (158, 0.02), (199, 2e-6)], smooth=True),
    ),
    (
        Warmup(Exponential(0.1, 0.98), 20, start_lr=0.01),
        then(np.linspace(0.01, 0.1, 21)[:-1], products(0.1, [0.98] * STEPS)),
    ),
    (
        Warmup(Constant(0.1), 20, 0.02, "cos"),
        then(half_wave(0.02, 0.1, 20), np.full(1, 0.1)),
    ),
    (Warmup(Constant(0.1), 20, 0.02, "constant"), then(np.full(20, 0.02), np.full(1, 0.1))),
    (Warmup(Constant(0.1), 20, 0.02, "exponential"), then(np.geomspace(0.02, 0.1, 21))),
    (
        Warmup(Exponential(0.1, 0.98), 20, overlap=True),
        np.minimum(1, T / 20) * products(0.1, [0.98] * STEPS),
    ),
    (Warmup(Cosine(0.1, 30), 0), then(half_wave(0.1, 0, 30), np.zeros(1))),
    (
        Sequential([Constant(0.3), Linear(0.2, 0.1, 10), Step(0.1, 50)], [7, 17]),
        then(
            np.full(7, 0.3),
            np.linspace(0.2, 0.1, 11)[:-1],
            products(0.1, [0.1 if t % 50 == 0 else 1.0 for t in range(1, STEPS)]),
        ),
    ),
    (Sequential([Cosine(0.1, 30)], []), then(half_wave(0.1, 0, 30), np.zeros(1))),
    (Scaled(Linear(0.1, 0.0, 10), 3.0), then(np.linspace(0.3, 0, 11))),
]
EVERY = [schedule for schedule, _ in VALUES]
every_schedule = pytest.mark.parametrize("schedule", EVERY, ids=repr)


@pytest.mark.parametrize(("schedule", "expected"), VALUES, ids=lambda value: repr(value)[:60])
def test_rates_are_those_of_the_reference(schedule: Schedule, expected: Rates) -> None:
    # 300 products of the reference round by 300 * 2**-53.
    np.testing.assert_allclose(values(schedule, STEPS), expected, rtol=1e-13, atol=1e-16)


def test_every_schedule_has_a_reference() -> None:
    classes = {getattr(schedules, name) for name in schedules.__all__} - {Schedule, values}
    assert {type(schedule) for schedule in EVERY} | {ReduceOnPlateau} == classes


def test_a_far_step_costs_nothing_and_has_not_drifted() -> None:
    far, beginning = 10**15, 3 * (2**48 - 1)
    assert Step(0.8, far, gamma=0.5)(3 * far - 1) == 0.2
    restarts = CosineRestarts(0.8, 3, T_mult=2)
    assert restarts(beginning) == 0.8
    assert 0 < restarts(beginning - 1) < 1e-12
    assert CosineRestarts(0.8, 1000)(far) == 0.8
    assert 0 < CosineRestarts(0.8, 1, T_mult=1 + 2**-40)(far) <= 0.8
    decayed = mpmath.mpf(0.8) * mpmath.mpf(0.9999) ** 100_000
    assert Exponential(0.8, 0.9999)(100_000) == pytest.approx(float(decayed), rel=4e-16)


@pytest.mark.parametrize("left", [1, 2, 1000, 499_999, 500_001, 999_999])
def test_a_cosine_is_exact_to_its_last_steps(left: int) -> None:
    with mpmath.workdps(40):
        share = (1 - mpmath.cos(mpmath.pi * left / 10**6)) / 2
        assert Cosine(0.1, 10**6)(10**6 - left) == pytest.approx(float(0.1 * share), rel=1e-15)


# ---- PyTorch ----


class Peer(NamedTuple):
    """A schedule, and how PyTorch is asked for the same."""

    schedule: Schedule
    lr: float
    name: str
    arguments: dict[str, Any]
    steps: int = STEPS


PEERS = [
    Peer(Step(0.1, 30), 0.1, "StepLR", {"step_size": 30}),
    Peer(Step(0.1, 7, 0.8), 0.1, "StepLR", {"step_size": 7, "gamma": 0.8}),
    Peer(MultiStep(0.1, [30, 80, 81]), 0.1, "MultiStepLR", {"milestones": [30, 80, 81]}),
    Peer(Exponential(0.1, 0.97), 0.1, "ExponentialLR", {"gamma": 0.97}),
    Peer(
        Linear(0.2, 0.05, 90),
        0.2,
        "LinearLR",
        {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 90},
    ),
    Peer(Linear(0.05, 0.2, 90), 0.2, "LinearLR", {"start_factor": 0.25, "total_iters": 90}),
    Peer(Polynomial(0.1, 200), 0.1, "PolynomialLR", {"total_iters": 200}),
    Peer(Polynomial(0.1, 200, 2.5), 0.1, "PolynomialLR", {"total_iters": 200, "power": 2.5}),
    Peer(Cosine(0.1, 250), 0.1, "CosineAnnealingLR", {"T_max": 250}, 251),
    Peer(Cosine(0.1, 250, 0.02), 0.1, "CosineAnnealingLR", {"T_max": 250, "eta_min": 0.02}, 251),
    Peer(CosineRestarts(0.1, 40), 0.1, "CosineAnnealingWarmRestarts", {"T_0": 40}),
    Peer(
        CosineRestarts(0.1, 11, 2, 0.01),
        0.1,
        "CosineAnnealingWarmRestarts",
        {"T_0": 11, "T_mult": 2, "eta_min": 0.01},
    ),
    Peer(
        Warmup(Constant(0.1), 12, 0.025, "constant"),
        0.1,
        "ConstantLR",
        {"factor": 0.25, "total_iters": 12},
    ),
    *[
        Peer(
            Cyclic(0.1, 0.5, up, down, mode, gamma),
            0.1,
            "CyclicLR",
            {
                "base_lr": 0.1,
                "max_lr": 0.5,
                "step_size_up": up,
                "step_size_down": down,
                "mode": mode,
                "gamma": gamma,
                "cycle_momentum": False,
            },
        )
        for up, down in ((1, None), (20, None), (7, 30))
        for mode, gamma in (("triangular", 1.0), ("triangular2", 1.0), ("exp_range", 0.99))
    ],
    *[
        Peer(
            OneCycle(0.5, steps, share, anneal, 20.0, 1e3, three),
            0.1,
            "OneCycleLR",
            {
                "max_lr": 0.5,
                "total_steps": steps,
                "pct_start": share,
                "anneal_strategy": anneal,
                "div_factor": 20.0,
                "final_div_factor": 1e3,
                "three_phase": three,
                "cycle_momentum": False,
            },
            steps,
        )
        for steps in (1, 3, 100, 257)
        for share in (0.0, 0.25, 0.3, 0.45, 1.0)
        for anneal in ("cos", "linear")
        for three in (False, True)
        if (steps, share) != (1, 1.0)  # there PyTorch divides by 0
    ],
    Peer(OneCycle(0.5, 300), 0.1, "OneCycleLR", {"max_lr": 0.5, "total_steps": 300}),
]


def torch_rates(peer: Peer) -> Rates:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], peer.lr, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, peer.name)(optimizer, **peer.arguments)
    return rates_of(optimizer, scheduler, peer.steps)


def rates_of(optimizer: Any, scheduler: Any, steps: int) -> Rates:
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()  # PyTorch warns where a scheduler moves first
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


@pytest.mark.peers
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: repr(peer.schedule))
def test_rates_are_pytorchs(peer: Peer) -> None:
    # PyTorch's go from each rate to the next, and gather 300 roundings of the first on the way.
    expected = torch_rates(peer)
    np.testing.assert_allclose(values(peer.schedule, peer.steps), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.peers
def test_a_sequence_with_warmup_is_pytorchs() -> None:
    import torch
    from torch.optim import lr_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.2)
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=20),
        lr_scheduler.CosineAnnealingLR(optimizer, 100),
        lr_scheduler.ExponentialLR(optimizer, 0.9),
    ]
    rates = rates_of(optimizer, lr_scheduler.SequentialLR(optimizer, parts, [20, 80]), STEPS)
    falling = Sequential([Cosine(0.2, 100), Exponential(0.2, 0.9)], [60])
    ours = values(Warmup(falling, 20, start_lr=0.02), STEPS)
    np.testing.assert_allclose(ours, rates, rtol=1e-13, atol=1e-14)


# ---- properties ----

lrs = st.floats(0, 10)
factors = st.floats(0.01, 1)
counts = st.integers(1, 150)
milestones = st.lists(counts, max_size=4, unique=True).map(sorted)
falls_to_an_end = st.one_of(
    st.builds(Linear, lrs, lrs, counts),
    st.builds(Polynomial, lrs, counts, st.floats(0.01, 20), lrs),
    st.builds(Cosine, lrs, counts, lrs, st.floats(0.1, 10)),
)

falls = st.one_of(
    st.builds(Constant, lrs),
    st.builds(Step, lrs, counts, factors),
    st.builds(MultiStep, lrs, milestones, factors),
    st.builds(Exponential, lrs, factors),
    st.builds(InverseTime, lrs, lrs, counts),
)
floors = st.one_of(
    st.builds(Step, lrs, counts, factors, lrs),
    st.builds(MultiStep, lrs, milestones, factors, lrs),
    st.builds(Exponential, lrs, factors, lrs),
    st.builds(InverseTime, lrs, lrs, counts, lrs),
)
triangles = st.builds(
    Cyclic,
    lrs,
    lrs,
    counts,
    st.none() | counts,
    st.sampled_from(["triangular", "triangular2", "exp_range"]),
    st.floats(0, 1),
)
cycles = st.builds(
    OneCycle,
    lrs,
    counts,
    st.floats(0, 1),
    st.sampled_from(["cos", "linear"]),
    st.floats(1, 50),
    st.floats(1, 1e4),
    st.booleans(),
)
restarts = st.builds(CosineRestarts, lrs, counts, st.integers(1, 4), lrs)
lower_restarts = st.builds(CosineRestarts, lrs, counts, st.floats(1, 4), lrs, st.floats(0.1, 1))
singles = st.one_of(
    falls_to_an_end,
    falls,
    floors,
    cycles,
    triangles,
    restarts,
    lower_restarts,
    st.builds(Polynomial, lrs, counts, st.floats(0.01, 20), lrs, st.just(True)),
    st.builds(InverseSqrt, lrs, counts, lrs),
)


@st.composite
def sequences(draw: st.DrawFn, parts: st.SearchStrategy[Schedule]) -> Sequential:
    steps = draw(milestones)
    return Sequential([draw(parts) for _ in range(len(steps) + 1)], steps)


everything = st.recursive(
    singles,
    lambda inner: st.one_of(
        st.builds(
            Warmup,
            inner,
            st.integers(0, 50),
            st.floats(0.001, 10),
            st.sampled_from(["linear", "cos", "exponential", "constant"]),
            st.booleans(),
        ),
        st.builds(Scaled, inner, st.floats(0, 3)),
        sequences(inner),
    ),
    max_leaves=4,
)
steps = st.integers(0, 400)


@given(everything, steps)
def test_rates_are_finite_floats_and_depend_on_the_step_alone(schedule: Schedule, t: int) -> None:
    rate = schedule(t)
    assert type(rate) is float
    assert 0 <= rate < math.inf
    schedule(t + 1), schedule(0)
    assert schedule(t) == schedule(np.int64(t)) == schedule(np.array(t)) == rate


@given(everything)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    copy = pickle.loads(pickle.dumps(schedule))
    written = eval(repr(schedule))
    for other in (copy, written):
        assert other == schedule
        assert hash(other) == hash(schedule)
        np.testing.assert_array_equal(values(other, 50), values(schedule, 50))


@given(falls_to_an_end)
def test_ends_are_exact_and_last(schedule: Any) -> None:
    length = schedule.T_max if isinstance(schedule, Cosine) else schedule.total_iters
    end = schedule.eta_min if isinstance(schedule, Cosine) else schedule.end_lr
    rates = values(schedule, length + 20)
    assert rates[0] == schedule.lr
    assert (rates[length:] == end).all()
    way = np.diff(rates) * np.sign(end - schedule.lr)
    assert (way >= 0).all()


@given(falls)
def test_what_falls_starts_at_lr_and_never_rises(schedule: Any) -> None:
    rates = values(schedule, 200)
    assert rates[0] == schedule.lr
    assert (np.diff(rates) <= 0).all()


@given(restarts)
def test_restarts_are_exact_and_cycles_fall(schedule: CosineRestarts) -> None:
    begin, length = 0, schedule.T_0
    for _ in range(4):
        rates = values(lambda t, begin=begin: schedule(begin + t), min(length, 300))
        assert rates[0] == schedule.lr
        assert (np.diff(rates) * (schedule.eta_min - schedule.lr) >= 0).all()
        begin, length = begin + length, length * schedule.T_mult
    assert schedule(begin) == schedule.lr


@given(lower_restarts, st.integers(0, 6))
def test_restarts_between_steps(schedule: CosineRestarts, number: int) -> None:
    begin = schedule.T_0 * sum(schedule.T_mult**k for k in range(number))
    top = schedule.eta_min + (schedule.lr - schedule.eta_min) * schedule.lr_mult**number
    first = math.ceil(begin + 1e-9 * begin)
    rates = [schedule(t) for t in range(first, first + 50)]
    inside = [t for t in range(50) if first + t < begin + schedule.T_0 * schedule.T_mult**number]
    low, high = sorted((top, schedule.eta_min))
    assert all(low * (1 - 1e-12) <= rates[t] <= high * (1 + 1e-12) for t in inside)
    wave = [
        math.cos(math.pi * (first + t - begin) / (schedule.T_0 * schedule.T_mult**number))
        for t in inside
    ]
    expected = [schedule.eta_min + (top - schedule.eta_min) * (1 + w) / 2 for w in wave]
    np.testing.assert_allclose(rates[: len(inside)], expected, rtol=1e-9, atol=1e-12)


@given(floors, steps)
def test_no_rate_is_below_the_least(schedule: Any, t: int) -> None:
    unbounded = replace(schedule, min_lr=0.0)
    assert schedule(t) == max(schedule.min_lr, unbounded(t))


@given(triangles)
def test_a_cyclic_rate_stays_between_its_ends_and_meets_them(schedule: Cyclic) -> None:
    up, down = schedule.step_size_up, schedule.step_size_down or schedule.step_size_up
    rates = values(schedule, 2 * (up + down) + 1)
    low, high = sorted((schedule.base_lr, schedule.max_lr))
    assert ((low <= rates) & (rates <= high)).all()
    assert (rates[:: up + down] == schedule.base_lr).all()
    if schedule.mode != "exp_range":
        assert rates[up] == schedule.max_lr


@given(cycles)
def test_one_cycle_stays_between_its_rates_and_holds_its_last(schedule: OneCycle) -> None:
    rates = values(schedule, schedule.total_steps + 20)
    lowest = schedule.max_lr / schedule.div_factor / schedule.final_div_factor
    assert ((lowest <= rates) & (rates <= schedule.max_lr)).all()
    assert (rates[schedule.total_steps :] == rates[schedule.total_steps - 1]).all()
    directions = np.sign(np.diff(rates))
    turns = [a for a, b in pairwise([*directions[directions != 0], 0]) if a != b]
    assert turns in ([], [1], [-1], [1, -1])


def test_one_cycle_reaches_its_rates_exactly() -> None:
    schedule = OneCycle(0.7, 100, div_factor=10, final_div_factor=100)
    assert [schedule(t) for t in (0, 29, 99)] == [0.7 / 10, 0.7, 0.7 / 10 / 100]
    # The phase without a step, where PyTorch divides by 0.
    assert OneCycle(0.7, 100, pct_start=0.01)(0) == 0.7


@given(st.builds(InverseSqrt, lrs, counts))
def test_inverse_sqrt_peaks_where_it_says(schedule: InverseSqrt) -> None:
    rates = values(schedule, 200)
    peak = schedule.warmup_steps - 1
    assert rates[peak] == rates.max() == schedule.lr
    assert (np.diff(rates[: peak + 1]) >= 0).all()
    assert (np.diff(rates[peak:]) <= 0).all()


@given(everything, st.integers(1, 60), lrs)
def test_warmup_leads_to_the_schedule(schedule: Schedule, n: int, start: float) -> None:
    rates = values(Warmup(schedule, n, start), n + 50)
    assert rates[0] == start
    np.testing.assert_array_equal(rates[n:], values(schedule, 50))
    np.testing.assert_allclose(
        np.diff(rates[: n + 1]), (schedule(0) - start) / n, rtol=0, atol=1e-14
    )


@given(sequences(singles))
def test_a_sequence_starts_each_schedule_anew(schedule: Sequential) -> None:
    begins = [0, *schedule.milestones]
    ends = [*schedule.milestones, begins[-1] + 50]
    for part, begin, end in zip(schedule.schedules, begins, ends, strict=True):
        rates = [schedule(t) for t in range(begin, end)]
        np.testing.assert_array_equal(rates, values(part, end - begin))


def test_combinators_take_any_function_of_the_step() -> None:
    def staircase(step: int) -> int:
        return 8 - step // 2

    assert Warmup(staircase, 4)(3) == 6.0
    combined = Scaled(Sequential([staircase, Constant(1.0)], [2]), 0.5)
    assert [combined(t) for t in range(4)] == [4.0, 4.0, 0.5, 0.5]
    assert values(staircase, 3).dtype == np.float64
    assert values(staircase, 0).shape == (0,)


# ---- immutable ----


@every_schedule
def test_nothing_can_be_set(schedule: Schedule) -> None:
    for entry in fields(schedule):
        with pytest.raises(FrozenInstanceError):
            setattr(schedule, entry.name, 1.0)


@every_schedule
def test_other_arguments_make_another_schedule(schedule: Schedule) -> None:
    parts = [FLAT] * len(getattr(schedule, "schedules", []))
    others = {"lr": 7.0, "max_lr": 7.0, "base_lr": 7.0, "schedule": FLAT, "schedules": parts}
    first = fields(schedule)[0].name
    assert replace(schedule, **{first: others[first]}) != schedule
    assert replace(schedule) == schedule


def test_lists_are_copied() -> None:
    steps, parts = [10, 20], [Constant(1.0), Constant(0.5), Constant(0.1)]
    falling, joined = MultiStep(1.0, steps, 0.5), Sequential(parts, steps)
    steps[0], parts[0] = 1, Constant(9.0)
    assert falling(5) == joined(5) == 1.0
    assert MultiStep(1.0, np.array([10, 20]), 0.5) == falling


def test_an_optimizer_follows_and_a_resumed_one_goes_on() -> None:
    schedule = Warmup(Cosine(0.5, 20), 5, start_lr=0.125)
    w = np.zeros(3)
    opt = nf.optim.SGD([w])
    for part in range(2):
        for _ in range(10):
            opt.lr = schedule(opt.step_count)
            opt.step([np.ones(3)])
        np.testing.assert_allclose(w, -values(schedule, 10 * (part + 1)).sum(), rtol=1e-14)
        resumed = nf.optim.SGD([w])
        resumed.step_count, opt = opt.step_count, resumed


# ---- the plateau ----


def updates(plateau: ReduceOnPlateau, metrics: list[float]) -> list[float]:
    return [plateau.update(metric) for metric in metrics]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("settings", "metrics", "rates"),
    [
        ({"patience": 0}, [5, 4, 4, 3, 3], [8, 8, 4, 4, 2]),
        ({"patience": 2}, [5, 5, 5, 5, 5, 5, 5], [8, 8, 8, 4, 4, 4, 2]),
        ({"patience": 1}, [5, 6, 4, 6, 6, 4], [8, 8, 8, 8, 4, 4]),
        ({"patience": 0, "factor": 0.25}, [5, 5, 5], [8, 2, 0.5]),
        ({"patience": 0, "mode": "max"}, [5, 6, 6, 7, 1], [8, 8, 4, 4, 2]),
        ({"patience": 0, "cooldown": 2}, [5, 5, 5, 5, 5, 5], [8, 4, 4, 4, 2, 2]),
        ({"patience": 1, "cooldown": 1}, [5, 5, 5, 5, 5, 5], [8, 8, 4, 4, 4, 2]),
        ({"patience": 0, "min_lr": 3}, [5, 5, 5, 5], [8, 4, 3, 3]),
        ({"patience": 0, "eps": 3}, [5, 5, 5], [8, 4, 4]),
        ({"patience": 0, "eps": 2}, [5, 5, 5], [8, 4, 4]),
        ({"patience": 0, "threshold": 0.5}, [8, 5, 3.9], [8, 4, 4]),
        ({"patience": 0, "threshold": 0.5, "mode": "max"}, [8, 12, 12.1], [8, 4, 4]),
        ({"patience": 0, "threshold": 1, "threshold_mode": "abs"}, [8, 7, 6.9], [8, 4, 4]),
        (
            {"patience": 0, "threshold": 1, "threshold_mode": "abs", "mode": "max"},
            [8, 9, 9.1],
            [8, 4, 4],
        ),
        ({"patience": 0}, [NAN, 5, NAN, 4], [4, 4, 2, 2]),
        ({"patience": 0}, [INF, 5, -INF, -INF], [4, 4, 4, 2]),
        ({}, [5] * 12, [8] * 11 + [4]),
    ],
)
def test_a_plateau_reduces(
    settings: dict[str, Any], metrics: list[float], rates: list[float]
) -> None:
    plateau = ReduceOnPlateau(8, **({"factor": 0.5} | settings))
    assert updates(plateau, metrics) == rates
    assert plateau.lr == rates[-1]


def test_the_defaults_are_pytorchs() -> None:
    plateau = ReduceOnPlateau(0.1)
    assert updates(plateau, [1.0] * 12)[-2:] == [0.1, 0.1 * 0.1]
    assert plateau.update(1 - 0.9e-4) == plateau.update(1 - 1.1e-4)
    assert plateau.best == 1 - 1.1e-4
    assert (plateau.min_lr, plateau.eps, plateau.cooldown) == (0, 1e-8, 0)


plateau_settings = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.floats(0, 0.99),
        "patience": st.integers(0, 4),
        "threshold": st.floats(0, 0.5),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 4),
        "min_lr": st.floats(0, 0.5),
        "eps": st.sampled_from([0, 1e-8, 0.1]),
    }
)
# Few different ones, so that some are equal, and any; enough of them to reduce more than once.
some_metric = st.sampled_from([1.0, 0.9, 0.8, -1.0, NAN]) | st.floats()
metric_lists = st.lists(some_metric, min_size=25, max_size=60)


@pytest.mark.peers
@given(plateau_settings, metric_lists)
def test_a_plateau_is_pytorchs_to_the_bit(settings: dict[str, Any], metrics: list[float]) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
    ours = ReduceOnPlateau(1.0, **settings)
    for metric in metrics:
        theirs.step(metric)
        assert ours.update(metric) == optimizer.param_groups[0]["lr"]
        state = ours.state_dict()
        assert {name: getattr(theirs, name) for name in state if name != "lr"} | {
            "lr": ours.lr
        } == state


@given(plateau_settings, metric_lists, st.integers(0, 60))
def test_a_resumed_plateau_goes_on(
    settings: dict[str, Any], metrics: list[float], cut: int
) -> None:
    whole, first = ReduceOnPlateau(1.0, **settings), ReduceOnPlateau(1.0, **settings)
    rates = updates(whole, metrics)
    updates(first, metrics[:cut])
    resumed = ReduceOnPlateau(7.0, **settings)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert resumed == first
    assert updates(resumed, metrics[cut:]) == rates[cut:]
    assert resumed == whole
    assert pickle.loads(pickle.dumps(whole)) == whole


def test_a_plateau_shows_what_it_is() -> None:
    plateau = ReduceOnPlateau(0.1, patience=3)
    plateau.update(np.float32(2))
    assert "lr=0.1" in repr(plateau)
    assert "best=2.0, num_bad_epochs=0, cooldown_counter=0" in repr(plateau)
    assert {type(value) for value in plateau.state_dict().values()} == {float, int}


GOOD = {"lr": 0.1, "best": 2.0, "num_bad_epochs": 1, "cooldown_counter": 0}


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([0.1], TypeError, "state must be a mapping, got list"),
        ({"lr": 0.1}, ValueError, "state must have the names lr, best, num_bad_epochs"),
        (GOOD | {"more": 1}, ValueError, "state must have the names lr, best"),
        (GOOD | {"lr": -1.0}, ValueError, r"state\['lr'\] must not be negative"),
        (GOOD | {"best": NAN}, ValueError, r"state\['best'\] must be in \[-inf, inf\], got nan"),
        (GOOD | {"num_bad_epochs": 1.5}, TypeError, r"state\['num_bad_epochs'\] must be an int"),
        (GOOD | {"cooldown_counter": -1}, ValueError, r"state\['cooldown_counter'\] must be at le"),
    ],
)
def test_a_wrong_state_changes_nothing(state: Any, error: type[Exception], message: str) -> None:
    plateau = ReduceOnPlateau(0.5)
    with pytest.raises(error, match=message):
        plateau.load_state_dict(state)
    assert plateau == ReduceOnPlateau(0.5)


def test_a_wrong_metric_changes_nothing() -> None:
    plateau = ReduceOnPlateau(0.5)
    with pytest.raises(TypeError, match="metric must be a real number, got NoneType"):
        plateau.update(None)  # type: ignore[arg-type]
    assert plateau == ReduceOnPlateau(0.5)


# ---- errors ----

NEGATIVE, NOT_FINITE = "must not be negative, got -1.0", "must be finite, got "


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant("fast"), TypeError, "lr must be a real number, got str"),
        (lambda: Constant(-1), ValueError, f"lr {NEGATIVE}"),
        (lambda: Constant(NAN), ValueError, f"lr {NOT_FINITE}nan"),
        (lambda: Constant(INF), ValueError, f"lr {NOT_FINITE}inf"),
        (lambda: Step(-1, 30), ValueError, f"lr {NEGATIVE}"),
        (lambda: Step(1, 30.0), TypeError, "step_size must be an int, got float"),
        (lambda: Step(1, 0), ValueError, "step_size must be at least 1, got 0"),
        (lambda: Step(1, 30, 0), ValueError, "gamma must be positive, got 0.0"),
        (lambda: MultiStep(-1, [3]), ValueError, f"lr {NEGATIVE}"),
        (lambda: MultiStep(1, 30), TypeError, "milestones must be a sequence, got int"),
        (lambda: MultiStep(1, [1, 2.5]), TypeError, r"milestones\[1\] must be an int, got float"),
        (lambda: MultiStep(1, [0, 5]), ValueError, r"milestones\[0\] must be at least 1, got 0"),
        (lambda: MultiStep(1, [5, 5]), ValueError, r"milestones must increase, got \(5, 5\)"),
        (lambda: MultiStep(1, [5], -1), ValueError, "gamma must be positive"),
        (lambda: Exponential(-1, 0.9), ValueError, f"lr {NEGATIVE}"),
        (lambda: Exponential(1, INF), ValueError, f"gamma {NOT_FINITE}inf"),
        (lambda: Exponential(1, -0.5), ValueError, "gamma must be positive, got -0.5"),
        (lambda: InverseTime(-1, 1), ValueError, f"lr {NEGATIVE}"),
        (lambda: InverseTime(1, -1), ValueError, f"decay {NEGATIVE}"),
        (lambda: InverseSqrt(-1, 1), ValueError, f"lr {NEGATIVE}"),
        (lambda: InverseSqrt(1, 0), ValueError, "warmup_steps must be at least 1, got 0"),
        (lambda: Linear(-1, 0, 10), ValueError, f"lr {NEGATIVE}"),
        (lambda: Linear(0, -1, 10), ValueError, f"end_lr {NEGATIVE}"),
        (lambda: Linear(1, 0, 0), ValueError, "total_iters must be at least 1, got 0"),
        (lambda: Polynomial(-1, 10), ValueError, f"lr {NEGATIVE}"),
        (lambda: Polynomial(1, 0), ValueError, "total_iters must be at least 1, got 0"),
        (lambda: Polynomial(1, 10, 0), ValueError, "power must be positive, got 0.0"),
        (lambda: Polynomial(1, 10, 1, -1), ValueError, f"end_lr {NEGATIVE}"),
        (lambda: Cosine(-1, 10), ValueError, f"lr {NEGATIVE}"),
        (lambda: Cosine(1, 10.0), TypeError, "T_max must be an int, got float"),
        (lambda: Cosine(1, 0), ValueError, "T_max must be at least 1, got 0"),
        (lambda: Cosine(1, 10, -1), ValueError, f"eta_min {NEGATIVE}"),
        (lambda: CosineRestarts(-1, 10), ValueError, f"lr {NEGATIVE}"),
        (lambda: CosineRestarts(1, 0), ValueError, "T_0 must be at least 1, got 0"),
        (lambda: CosineRestarts(1, 10, 0), ValueError, "T_mult must be at least 1, got 0"),
        (lambda: CosineRestarts(1, 10, NAN), ValueError, f"T_mult {NOT_FINITE}nan"),
        (lambda: CosineRestarts(1, 10, "2"), TypeError, "T_mult must be a real number, got str"),
        (lambda: CosineRestarts(1, 10, lr_mult=0), ValueError, "lr_mult must be positive, got 0.0"),
        (
            lambda: CosineRestarts(1, 10, 2, 1.5, 2),
            ValueError,
            "eta_min must be at most lr where lr_mult is above 1, got 1.5",
        ),
        (lambda: Cyclic(-1, 1, 5), ValueError, f"base_lr {NEGATIVE}"),
        (lambda: Cyclic(0, -1, 5), ValueError, f"max_lr {NEGATIVE}"),
        (lambda: Cyclic(0, 1, 0), ValueError, "step_size_up must be at least 1, got 0"),
        (lambda: Cyclic(0, 1, 5, 0), ValueError, "step_size_down must be at least 1, got 0"),
        (lambda: Cyclic(0, 1, 5, mode="square"), ValueError, "mode must be 'triangular', 'trian"),
        (lambda: Cyclic(0, 1, 5, gamma=2), ValueError, r"gamma must be in \[0, 1\], got 2.0"),
        (lambda: Step(1, 30, min_lr=-1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: MultiStep(1, [3], min_lr=-1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: Exponential(1, 0.9, -1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: InverseTime(1, 1, 0), ValueError, "step_size must be at least 1, got 0"),
        (lambda: InverseTime(1, 1, 2, -1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: InverseSqrt(1, 1, -1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: Cosine(1, 10, exponent=0), ValueError, "exponent must be positive, got 0.0"),
        (lambda: Warmup(FLAT, 5, curve="square"), ValueError, "curve must be 'cos', 'linear', "),
        (
            lambda: Warmup(FLAT, 5, curve="exponential"),
            ValueError,
            "start_lr must be positive for an exponential warm-up, got 0.0",
        ),
        (lambda: CosineRestarts(1, 10, 1, -1), ValueError, f"eta_min {NEGATIVE}"),
        (lambda: OneCycle(-1, 10), ValueError, f"max_lr {NEGATIVE}"),
        (lambda: OneCycle(1, 0), ValueError, "total_steps must be at least 1, got 0"),
        (lambda: OneCycle(1, 9, 30), ValueError, r"pct_start must be in \[0, 1\], got 30.0"),
        (lambda: OneCycle(1, 9, NAN), ValueError, r"pct_start must be in \[0, 1\], got nan"),
        (
            lambda: OneCycle(1, 9, anneal_strategy="cosine"),
            ValueError,
            "anneal_strategy must be 'cos' or 'linear', got 'cosine'",
        ),
        (lambda: OneCycle(1, 9, div_factor=0), ValueError, "div_factor must be positive, got 0.0"),
        (lambda: OneCycle(1, 9, final_div_factor=0), ValueError, "final_div_factor must be posi"),
        (lambda: Warmup(0.1, 10), TypeError, "schedule must be a function of the step, got float"),
        (
            lambda: Warmup(ReduceOnPlateau(1), 10),
            TypeError,
            "schedule must be a function of the step, got ReduceOnPlateau",
        ),
        (lambda: Warmup(FLAT, -1), ValueError, "warmup_steps must be at least 0, got -1"),
        (lambda: Warmup(FLAT, 1, -1), ValueError, f"start_lr {NEGATIVE}"),
        (lambda: Sequential(FLAT, []), TypeError, "schedules must be a sequence, got Constant"),
        (lambda: Sequential([FLAT, 1], [5]), TypeError, r"schedules\[1\] must be a function"),
        (lambda: Sequential([], []), ValueError, "schedules must not be empty"),
        (
            lambda: Sequential([FLAT, FLAT], []),
            ValueError,
            "milestones must be one fewer than the 2 schedules, got 0",
        ),
        (lambda: Sequential([FLAT] * 3, [5, 4]), ValueError, "milestones must increase"),
        (lambda: Scaled(1, 2), TypeError, "schedule must be a function of the step, got int"),
        (lambda: Scaled(FLAT, -1), ValueError, f"factor {NEGATIVE}"),
        (lambda: values(1, 2), TypeError, "schedule must be a function of the step, got int"),
        (lambda: values(FLAT, 2.5), TypeError, "steps must be an int, got float"),
        (lambda: values(FLAT, -1), ValueError, "steps must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(-1), ValueError, f"lr {NEGATIVE}"),
        (lambda: ReduceOnPlateau(1, mode="less"), ValueError, "mode must be 'min' or 'max', got"),
        (
            lambda: ReduceOnPlateau(1, factor=1.0),
            ValueError,
            r"factor must be in \[0, 1\), got 1.0",
        ),
        (lambda: ReduceOnPlateau(1, patience=-1), ValueError, "patience must be at least 0, got"),
        (lambda: ReduceOnPlateau(1, patience=2.0), TypeError, "patience must be an int"),
        (lambda: ReduceOnPlateau(1, threshold=-1), ValueError, f"threshold {NEGATIVE}"),
        (
            lambda: ReduceOnPlateau(1, threshold_mode="ratio"),
            ValueError,
            "threshold_mode must be 'rel' or 'abs', got 'ratio'",
        ),
        (lambda: ReduceOnPlateau(1, cooldown=-1), ValueError, "cooldown must be at least 0"),
        (lambda: ReduceOnPlateau(1, min_lr=-1), ValueError, f"min_lr {NEGATIVE}"),
        (lambda: ReduceOnPlateau(1, eps=NAN), ValueError, f"eps {NOT_FINITE}nan"),
    ],
)
def test_arguments_are_checked(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make()


@every_schedule
def test_steps_are_checked(schedule: Schedule) -> None:
    for step in (2.0, "2", None, np.float64(2), np.arange(3)):
        with pytest.raises(TypeError, match="^step must be an int, got "):
            schedule(step)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^step must be at least 0, got -1$"):
        schedule(-1)


def test_a_function_that_returns_no_number() -> None:
    for schedule in (Warmup(print, 2), Sequential([print], []), Scaled(print, 2)):  # type: ignore[list-item, arg-type]
        with pytest.raises(TypeError, match=r"^schedule\(step\) must be a real number, got None"):
            schedule(0)


def test_a_rate_beyond_all_floats() -> None:
    for schedule in (Exponential(1.0, 2.0), Step(1.0, 1, 2.0), MultiStep(1.0, range(1, 5000), 2.0)):
        with pytest.raises(OverflowError, match="gamma must be smaller"):
            schedule(5000)
    with pytest.raises(OverflowError, match="lr_mult must be smaller"):
        CosineRestarts(1.0, 1, lr_mult=2.0)(5000)


# ---- the page and its picture ----


def test_every_public_name_has_an_example() -> None:
    names = {test.name for test in examples() if test.name.startswith("nnfast.schedules")}
    assert set(schedules.__all__) <= {name.rsplit(".", 1)[-1] for name in names}
    assert "nnfast.schedules" in names


def test_the_page_names_everything() -> None:
    missing = [name for name in schedules.__all__ if not re.search(rf"`{name}[`(]", PAGE)]
    assert missing == []


def test_the_page_shows_the_calls_that_are_drawn() -> None:
    calls = re.findall(r"^\| `(\w+\(.*?\))` \|", PAGE, re.M)
    assert tuple(eval(call) for call in calls) == picture.EXAMPLES
    drawn = {type(schedule).__name__ for schedule in picture.EXAMPLES} | {"ReduceOnPlateau"}
    assert drawn == set(schedules.__all__) - {"Schedule", "values"}


def test_the_pages_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(block, found)
    assert np.abs(found["w"]).max() < 0.1
    assert found["lr"] == 0.05
    assert set(found["saved"]) == set(GOOD)


def test_the_pages_picture_is_there_and_small() -> None:
    picture = (ROOT / "docs/schedules.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_draws(tmp_path: Path) -> None:
    picture = tmp_path / "schedules.png"
    done = run("-W", "error", "-m", "nnfast.schedules", str(picture))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_drawing_leaves_matplotlib_alone(tmp_path: Path) -> None:
    code = """
import sys
from nnfast.schedules.picture import main
print(main(sys.argv[1:]), "matplotlib.pyplot" in sys.modules)
"""
    assert run("-c", code, str(tmp_path / "schedules.png")).stdout == "0 False\n"


def test_the_command_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert picture.main([]) == 2
    assert "usage: python -m nnfast.schedules PICTURE" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert picture.main(["nowhere.png"]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err


def test_without_pytorch_its_tests_are_not_there() -> None:
    code = """
import importlib.util, sys, pytest
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "torch" else found(name, *package)
pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", sys.argv[1]])
"""
    listed = run("-c", code, __file__).stdout
    assert "test_ends_are_exact_and_last" in listed
    assert "pytorchs[" not in listed
    assert re.search(rf"{len(PEERS) + 2} deselected", listed)
