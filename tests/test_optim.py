"""Optimizers: every rule in every convention beside readable references, and beside PyTorch."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import ISAS
from layouts import assert_same_bits
from optim_rules import (
    DTYPES,
    NOT_PYTORCHS,
    TABLE,
    Array,
    Rule,
    draw,
    every_rule,
    followed,
    kept_params,
    label,
    rounding_of_step,
    start,
    train,
)
from pairs import in_pairs
from tests.reference.optim import State, rectification


def assert_within(actual: list[Array], expected: list[Array], bound: float) -> None:
    for a, w in zip(actual, expected, strict=True):
        assert a.shape == w.shape
        np.testing.assert_allclose(a, w, rtol=0, atol=bound)


@in_pairs(rule=TABLE, dtype=DTYPES, isa=ISAS)
def test_a_hundred_steps_are_the_formula(isa: str, rule: Rule, dtype: type) -> None:
    params = start(dtype)
    optimizer = rule.optimizer(params)
    train(optimizer, range(1, 101), dtype)
    assert optimizer.step_count == 100
    reference = followed(TABLE.index(rule), dtype)
    kept = kept_params(optimizer)
    assert_within(kept, reference.params, reference.bound(dtype))
    for p, k in zip(params, kept, strict=True):
        assert_same_bits(p, k.astype(dtype))


# Rprop's steps begin with the learning rate that it is made with.
@pytest.mark.parametrize("rule", [rule for rule in TABLE if rule.kind != "Rprop"], ids=label)
def test_learning_rates_that_change(rule: Rule) -> None:
    """Only then it is seen whether the learning rate is inside the momentum."""
    params = start(np.float64)
    expected: list[Array] = draw(np.float64, 1000)
    states: list[State] = [{} for _ in params]
    optimizer = rule.optimizer(params)
    bound = 0.0
    for t in range(1, 21):
        lr = optimizer.lr = 0.1 / t
        of_step = rule._replace(settings={**rule.settings, "lr": lr})
        optimizer.step(draw(np.float64, t))
        before, grads = expected, draw(np.float64, t)
        expected = [
            of_step.follow(p, g, s, t) for p, g, s in zip(before, grads, states, strict=True)
        ]
        bound += rounding_of_step(before, expected, t) * float(np.finfo(np.float64).eps)
    assert_within(params, expected, bound)


@every_rule
def test_a_bowl_is_descended(rule: Rule) -> None:
    sign = -1 if rule.settings.get("maximize") else 1
    w = np.array([3.0, -2.0])
    optimizer = rule.optimizer([w])
    for _ in range(500):
        optimizer.step([sign * 2 * w])
    assert (w**2).sum() < 13


def test_defaults_by_convention() -> None:
    """Where a convention says nothing PyTorch's numbers stand."""
    assert nf.optim.Adam([]).lr == nf.optim.Adam([], convention="optax").lr == 1e-3
    for kind in nf.optim.rules.__all__:
        had = {rule.convention for rule in TABLE if rule.kind == kind}
        for convention in {"torch", "keras", "optax", "cs231n"} - had:
            with pytest.raises(ValueError, match=f"convention '{convention}' has no {kind}"):
                getattr(nf.optim, kind)([np.ones(3)], convention=convention)


def five_at(t: int) -> float:
    """beta2 for which RAdam's ρ of step t is 5, if there is one; found by bisection."""
    low, high = 0.5, 0.99
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rectification(t, middle)[0] < 5 else (low, middle)
    return high


@pytest.mark.parametrize(("convention", "rectified"), [("torch", False), ("optax", True)])
def test_rectification_begins_at_or_after_five(convention: Any, rectified: bool) -> None:
    t, beta = next((t, b) for t in range(7, 20) if rectification(t, b := five_at(t))[0] == 5)
    w = np.zeros(1)
    optimizer = nf.optim.RAdam([w], lr=1.0, betas=(0.0, beta), eps=0.0, convention=convention)
    optimizer.step_count = t - 1
    optimizer.step([np.full(1, 3.0)])
    root = np.sqrt((1 - beta) * 9 / (1 - beta**t))
    np.testing.assert_allclose(w, -3 * rectification(t, beta)[1] / root if rectified else -3)


def test_corrections_are_made_in_double() -> None:
    """1 - beta2 is 1e-12 here; a float32 beta2 would be 1 and leave nothing to divide by."""
    for dtype in (np.float32, np.float64):
        w = np.zeros(3, dtype)
        optimizer = nf.optim.Adam([w], lr=1.0, betas=(1 - 1e-9, 1 - 1e-12), eps=0.0)
        optimizer.step([np.array([1e-3, -1, 30], dtype)])
        # m, v, √v̂ and the quotient, each of two or three roundings to dtype.
        np.testing.assert_allclose(w, [-1, 1, -1], rtol=10 * np.finfo(dtype).eps)


# ---- beside PyTorch ----

# Rules that PyTorch lacks.
OTHERS = {"Lion", "AdaBelief", "Yogi", "Adan", "Ftrl", "LAMB", "LARS"}
PEERS = [
    i
    for i, r in enumerate(TABLE)
    if r.convention == "torch"
    and r.kind not in OTHERS
    and not NOT_PYTORCHS & r.settings.keys()
    and not (r.kind == "Rprop" and "weight_decay" in r.settings)
]


def torch_optimizer(rule: Rule, params: list[Any], **settings: Any) -> Any:
    import torch

    return getattr(torch.optim, rule.kind)(params, **{**rule.settings, **settings})


def tensors(arrays: list[Array]) -> list[Any]:
    import torch

    return [torch.tensor(array, requires_grad=True) for array in arrays]


def torch_step(optimizer: Any, params: list[Any], grads: list[Array]) -> None:
    import torch

    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g)
    optimizer.step()


@pytest.mark.peers
@pytest.mark.parametrize("row", PEERS, ids=[TABLE[row].name for row in PEERS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_hundred_steps_are_pytorchs(row: int, dtype: type) -> None:
    rule = TABLE[row]
    params, theirs = start(dtype), tensors(start(dtype))
    optimizer, other = rule.optimizer(params), torch_optimizer(rule, theirs)
    for t in range(1, 101):
        optimizer.step(draw(dtype, t))
        torch_step(other, theirs, draw(dtype, t))
    bound = 2 * followed(row, dtype).bound(dtype)
    # Their product of μ, and their eta, are float32 whatever the parameters are.
    if rule.kind in ("NAdam", "ASGD"):
        bound += float(np.finfo(np.float32).eps) * followed(row, dtype).changes
    assert_within(params, [p.detach().numpy() for p in theirs], bound)


@pytest.mark.peers
def test_groups_are_pytorchs() -> None:
    import torch

    params, theirs = start(np.float64), tensors(start(np.float64))
    optimizer, other = (
        make(
            [
                {"params": p[:2], "lr": 0.05, "betas": (0.8, 0.9)},
                {"params": p[2:], "weight_decay": 0.0, "eps": 0.1},
            ]
        )
        for make, p in ((nf.optim.AdamW, params), (torch.optim.AdamW, theirs))
    )
    for t in range(1, 31):
        optimizer.groups[0]["lr"] = other.param_groups[0]["lr"] = 0.05 / t
        optimizer.step(draw(np.float64, t))
        torch_step(other, theirs, draw(np.float64, t))
    # As Followed.bound has it, of steps of lr and parameters up to 4, in both.
    roundings = sum(4 + (1.5 * t + 8) * 0.05 / t for t in range(1, 31))
    bound = 2 * roundings * float(np.finfo(np.float64).eps)
    assert_within(params, [p.detach().numpy() for p in theirs], bound)


@pytest.mark.peers
@pytest.mark.parametrize("limit", [0.5, 1e6])
@pytest.mark.parametrize("option", ["clip_global_norm", "clip_value"])
def test_clipping_is_pytorchs(option: str, limit: float) -> None:
    import torch

    clip = {
        "clip_global_norm": torch.nn.utils.clip_grad_norm_,
        "clip_value": torch.nn.utils.clip_grad_value_,
    }[option]
    params, theirs = start(np.float64), tensors(start(np.float64))
    optimizer = nf.optim.SGD(params, lr=0.1, weight_decay=0.1, **{option: limit})
    other = torch.optim.SGD(theirs, lr=0.1, weight_decay=0.1)
    for t in range(1, 11):
        optimizer.step(draw(np.float64, t))
        for p, g in zip(theirs, draw(np.float64, t), strict=True):
            p.grad = torch.tensor(g)
        clip(theirs, limit)
        other.step()
    # Their norm is a sum of 392 squares, each addition of which may round; a step is not above 3 lr.
    bound = 10 * 0.3 * 392 * np.finfo(np.float64).eps
    assert_within(params, [p.detach().numpy() for p in theirs], bound)


@pytest.mark.peers
def test_averages_are_pytorchs() -> None:
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    params, theirs = start(np.float64), tensors(start(np.float64))
    model = torch.nn.ParameterList(theirs)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(model)  # theirs begins with what it sees first
    optimizer = nf.optim.SGD(params, lr=0.1, ema_decay=0.9, ema_bias_correction=False)
    other = torch.optim.SGD(list(model), lr=0.1)
    for t in range(1, 31):
        optimizer.step(draw(np.float64, t))
        torch_step(other, list(model), draw(np.float64, t))
        averaged.update_parameters(model)
    expected = [p.detach().numpy() for p in averaged.module]
    # 30 steps of parameters up to 4, each rounded twice in either.
    assert_within(optimizer.averaged_params(), expected, 30 * 4 * 2 * np.finfo(np.float64).eps)
