"""Rules of matrices: Muon and Adafactor."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from optim_rules import Array, assert_same_arrays, every_dtype, everything

State = dict[str, Any]


def newton_schulz(g: Array, steps: int = 5) -> Array:
    x = g / max(np.linalg.norm(g), 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def muon(p: Array, g: Array, s: State, nesterov: bool = True, rms: bool = False) -> Array:
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g
    u = 0.95 * s["v"] + 0.05 * g if nesterov else s["v"]
    m, n = p.shape
    scale = 0.2 * np.sqrt(max(m, n)) if rms else np.sqrt(max(1, m / n))
    return p * (1 - 0.02 * 0.1) - 0.02 * scale * newton_schulz(u)


def adafactor(p: Array, g: Array, s: State, t: int, eps1: float, decay: float = 0.0) -> Array:
    lr, share = 0.01, t**-0.8
    alpha = max(1e-3, np.linalg.norm(p) / np.sqrt(p.size)) * min(lr, 1 / np.sqrt(t))
    if p.ndim > 1:
        for axis in (-1, -2):
            mean = (g**2).mean(axis, keepdims=True)
            s[axis] = (1 - share) * s.get(axis, 0.0) + share * mean
        v = s[-1] * s[-2] / np.maximum(s[-1].mean(-2, keepdims=True), eps1)
    else:
        v = s["v"] = (1 - share) * s.get("v", 0.0) + share * g**2
    u = g / np.sqrt(np.maximum(v, eps1**2))
    return p * (1 - lr * decay) - alpha / max(1, np.linalg.norm(u) / np.sqrt(p.size)) * u


@pytest.mark.parametrize("shape", [(7, 33), (33, 7), (5, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("settings", [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}])
@every_dtype
def test_muon_is_the_formula(shape: tuple[int, int], settings: dict[str, Any], dtype: type) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(shape).astype(dtype)
    expected, s = w.astype(np.float64), {}
    opt = nf.optim.Muon([w], lr=0.02, **settings)
    for _ in range(10):
        g = rng.standard_normal(shape).astype(dtype)
        opt.step([g])
        wide = g.astype(np.float64)
        expected = muon(expected, wide, s, *((False, True) if settings else ()))
    kept = (opt._master or [w])[0]
    np.testing.assert_allclose(kept, expected, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-4)
    assert_same_bits(w, kept.astype(dtype))


@pytest.mark.parametrize("shape", [(7, 33), (33, 7), (3, 5, 6), (40,), (), (300, 500)])
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.5}])
@every_dtype
def test_adafactor_is_the_formula(
    shape: tuple[int, ...], settings: dict[str, float], dtype: type
) -> None:
    rng = np.random.default_rng(0)
    w = np.asarray(rng.standard_normal(shape)).astype(dtype)
    expected, s = w.astype(np.float64), {}
    opt = nf.optim.Adafactor([w], **settings)
    wide = np.float32 if dtype is np.float16 else dtype
    for t in range(1, 21):
        g = np.asarray(rng.standard_normal(shape)).astype(dtype)
        opt.step([g])
        eps = float(np.finfo(wide).eps)
        decay = settings.get("weight_decay", 0.0)
        expected = adafactor(expected, g.astype(np.float64), s, t, eps, decay)
    kept = (opt._master or [w])[0]
    np.testing.assert_allclose(kept, expected, rtol=0, atol=200 * np.finfo(wide).eps)
    assert_same_bits(w, np.asarray(kept).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_adafactor_do_not_depend_on_threads_and_isa(dtype: type) -> None:
    rng = np.random.default_rng(3)
    shapes = ((70, 300), (5, 19), (2, 3, 4), (3000, 7), (40,))
    first = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    grads = [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    def run() -> dict[str, Array]:
        opt = nf.optim.Adafactor([w.copy() for w in first])
        for _ in range(2):
            opt.step(grads)
        return everything(opt)

    expected = run()
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_arrays(run(), expected)


def test_moments_of_long_rows_and_columns_are_rounded_once() -> None:
    for shape in ((3, 100_003), (100_003, 3)):
        g = (1 + np.random.default_rng(0).random(shape)).astype(np.float32)
        opt = nf.optim.Adafactor([np.ones(shape, np.float32)])
        opt.step([g])
        squares = g.astype(np.float64) ** 2
        for name, axis in (("row_var", -1), ("col_var", -2)):
            expected = squares.mean(axis, keepdims=True).astype(np.float32)
            np.testing.assert_array_max_ulp(opt.state[name][0], expected, 1)


def test_moments_with_nan_and_zeros() -> None:
    w = np.ones((4, 5))
    opt = nf.optim.Adafactor([w], eps1=0.0)
    g = np.ones((4, 5))
    g[1, 2] = np.nan
    opt.step([g])
    assert np.isnan(opt.state["row_var"][0][1, 0])
    assert np.isnan(opt.state["col_var"][0][0, 2])
    w = np.ones((4, 5))
    nf.optim.Adafactor([w]).step([np.zeros((4, 5))])
    assert (w == 1).all()


MATRICES = ["Muon", "Adafactor"]


def matrices(dtype: type) -> list[Array]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((7, 33), (20, 3), (0, 4))]


@pytest.mark.parametrize("kind", MATRICES)
@every_dtype
def test_rules_of_matrices_have_all_options(kind: str, dtype: type, tmp_path: Path) -> None:
    """Groups, clipping, averages, statistics, skipping, gradients of None, and a state that is resumed."""

    def make() -> Any:
        w, *rest = matrices(dtype)
        options = {"clip_global_norm": 1.0, "ema_decay": 0.5, "skip_nonfinite": True}
        groups = [{"params": [w], "lr": 0.1, "weight_decay": 0.0}, {"params": rest}]
        return getattr(nf.optim, kind)(groups, maximize=True, **options)

    opt, other = make(), make()
    before = [p.copy() for p in opt.params]
    stats = opt.step(matrices(dtype), stats=True)
    norms = [np.linalg.norm(g.astype(float)) for g in matrices(dtype)]
    np.testing.assert_allclose(stats.grad_norm, norms, rtol=1e-3)
    kept = opt._master or opt.params
    ends = [np.linalg.norm(p.astype(float)) for p in kept]
    np.testing.assert_allclose(stats.param_norm, ends, rtol=1e-3)
    assert (stats.update_norm[:2] > 0).all()
    assert all((p != q).any() for p, q in zip(opt.params[:2], before, strict=False))
    opt.save(tmp_path / "state.npz")
    other.load(tmp_path / "state.npz")
    for mine, theirs in zip(other.params, opt.params, strict=True):
        mine[...] = theirs
    copied = copy.deepcopy(opt)
    grads: list[Any] = matrices(dtype)
    grads[1] = None
    for each in (opt, other, copied):
        each.step(grads)
    assert_same_arrays(everything(other), everything(opt))
    assert_same_arrays(everything(copied), everything(opt))
    nans = matrices(dtype)
    nans[0][0, 0] = np.nan
    before = [p.copy() for p in opt.params]
    opt.step(nans)
    assert opt.skipped_count == 1
    for p, q in zip(opt.params, before, strict=True):
        assert_same_bits(p, q)


@pytest.mark.parametrize("kind", MATRICES)
def test_rules_of_matrices_update_any_layout(kind: str) -> None:
    first = matrices(np.float32)[0]

    def run(w: Array, g: Array) -> Array:
        opt = getattr(nf.optim, kind)([w])
        for _ in range(2):
            opt.step([g])
        return w

    expected = run(first.copy(), first)
    for name in layouts(first):
        assert_same_bits(run(layouts(first)[name], first), expected)
        assert_same_bits(run(first.copy(), layouts(first)[name]), expected)


@pytest.mark.parametrize("kind", MATRICES)
def test_bad_input_changes_nothing(kind: str) -> None:
    w = np.ones((3, 4))
    opt = getattr(nf.optim, kind)([w])
    opt.step([np.ones((3, 4))])
    before = everything(opt)
    for grads, error, message in (
        ([np.ones((4, 3))], ValueError, r"grads\[0\] must have shape"),
        ([np.ones((3, 4), np.float32)], TypeError, r"grads\[0\] must have dtype float64"),
        ([], ValueError, "grads must have"),
        ([None, None], ValueError, "grads must have"),
    ):
        with pytest.raises(error, match=message):
            opt.step(grads)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        opt.step([np.ones((3, 4))])
    assert_same_arrays(everything(opt), before)
    if kind == "Muon":
        with pytest.raises(ValueError, match=r"params\[0\] must have two axes, got shape \(3,\)"):
            nf.optim.Muon([np.ones(3)])


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("Muon", {"ns_steps": -1}, ValueError, "ns_steps must be at least 0"),
        ("Muon", {"ns_coefficients": (1, 2)}, TypeError, "ns_coefficients must be three numbers"),
        ("Muon", {"adjust_lr_fn": "none"}, ValueError, "adjust_lr_fn must be 'original' or"),
        ("Muon", {"decoupled_weight_decay": False}, ValueError, "decoupled_weight_decay must be"),
        ("Adafactor", {"beta2_decay": 0.5}, ValueError, "beta2_decay must not be positive"),
        ("Adafactor", {"d": 0}, ValueError, "d must be positive"),
    ],
)
def test_numbers_are_checked(
    kind: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(nf.optim, kind)([np.ones((3, 3))], **settings)


# ---- beside PyTorch ----


@pytest.mark.peers
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.5}, {"d": 1.5, "beta2_decay": -0.5}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adafactor_is_pytorchs(settings: dict[str, float], dtype: type) -> None:
    import torch

    params = [*matrices(dtype)[:2], np.linspace(-1, 1, 9).astype(dtype)]
    theirs = [torch.tensor(p) for p in params]
    opt, other = nf.optim.Adafactor(params, **settings), torch.optim.Adafactor(theirs, **settings)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    for _ in range(50):
        grads = [rng.standard_normal(p.shape).astype(dtype) for p in params]
        opt.step(grads)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g)
        other.step()
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p, q.numpy(), rtol=0, atol=400 * np.finfo(dtype).eps)


@pytest.mark.peers
def test_muon_is_pytorchs_but_for_bfloat16() -> None:
    import torch

    w = matrices(np.float32)[0]
    first, theirs = w.copy(), torch.tensor(w)
    opt, other = nf.optim.Muon([w], lr=0.02), torch.optim.Muon([theirs], lr=0.02)
    rng = np.random.default_rng(0)
    for _ in range(50):
        g = rng.standard_normal(w.shape).astype(np.float32)
        opt.step([g])
        theirs.grad = torch.tensor(g)
        other.step()
    # bfloat16 has 8 bits: its directions differ by some percent.
    moved = np.linalg.norm(w - first)
    assert np.linalg.norm(w - theirs.numpy()) < 0.05 * moved
