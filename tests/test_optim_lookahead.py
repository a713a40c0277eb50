"""Lookahead: slow weights beside those of a rule."""

import copy
from pathlib import Path

import numpy as np
import pytest

import nnfast as nf
from optim_rules import assert_same_arrays, draw, every_dtype, everything, start


@every_dtype
def test_lookahead_is_the_formula(dtype: type) -> None:
    params, alone = start(dtype), start(dtype)
    opt = nf.optim.Lookahead(nf.optim.Adam(params, lr=0.1), k=3, alpha=0.3)
    inner = nf.optim.Adam(alone, lr=0.1)
    kept = np.float32 if dtype is np.float16 else dtype
    slow = [p.astype(kept) for p in alone]
    for t in range(1, 11):
        opt.step(draw(dtype, t))
        inner.step(draw(dtype, t))
        if t % 3 == 0:
            fast = inner._master or alone
            for s, f, p in zip(slow, fast, alone, strict=True):
                s += kept(0.3) * (f - s)
                f[...] = s
                p[...] = s
        for p, expected in zip(params, alone, strict=True):
            np.testing.assert_allclose(p, expected, rtol=0, atol=20 * float(np.finfo(dtype).eps))
    for s, expected in zip(opt.slow, slow, strict=True):
        np.testing.assert_allclose(s, expected, rtol=0, atol=20 * float(np.finfo(kept).eps))
    assert opt.step_count == 10


def test_lookahead_is_resumed(tmp_path: Path) -> None:
    def make() -> nf.optim.Lookahead:
        return nf.optim.Lookahead(nf.optim.Adam(start(np.float16), lr=0.1), k=3)

    opt, other = make(), make()
    other.k = 7
    for t in range(4):
        opt.step(draw(np.float16, t))
    copied = copy.deepcopy(opt)
    opt.save(tmp_path / "state.npz")
    other.load(tmp_path / "state.npz")
    assert other.k == 3
    for mine, theirs in zip(other.params, opt.params, strict=True):
        mine[...] = theirs
    for t in range(4, 9):
        for each in (opt, other, copied):
            each.step(draw(np.float16, t))
    for each in (other, copied):
        assert_same_arrays(everything(each), everything(opt))
    sgd = nf.optim.Lookahead(nf.optim.SGD(start(np.float16)))
    with pytest.raises(ValueError, match="state"):
        sgd.load_state_dict(opt.state_dict())


def test_lookahead_counts_the_steps_that_are_made() -> None:
    w = np.ones(3)
    opt = nf.optim.Lookahead(nf.optim.SGD([w], lr=1.0, skip_nonfinite=True), k=2, alpha=0.0)
    opt.step([np.ones(3)])
    opt.step([np.full(3, np.nan)])
    np.testing.assert_array_equal(w, 0)
    opt.lr = 0.5
    opt.step([np.ones(3)])
    np.testing.assert_array_equal(w, 1)  # back, with alpha 0
    assert opt.optimizer.lr == opt.lr == 0.5


def test_what_lookahead_refuses() -> None:
    adam = nf.optim.Adam([np.ones(2)])
    with pytest.raises(TypeError, match="optimizer must be an nnfast.optim.Optimizer, got list"):
        nf.optim.Lookahead([np.ones(2)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k must be at least 1"):
        nf.optim.Lookahead(adam, k=0)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        nf.optim.Lookahead(adam, alpha=1.5)
    with pytest.raises(ValueError, match="optimizer must have parameters"):
        nf.optim.Lookahead(adam.clone())
    opt = nf.optim.Lookahead(adam)
    opt.k = 0
    with pytest.raises(ValueError, match="k must be at least 1"):
        opt.step([np.ones(2)])
    assert opt.step_count == 0
