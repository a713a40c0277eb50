"""Schedule-free rules beside the three sequences of their paper."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from optim_rules import Array, assert_same_arrays, draw, every_dtype, everything, start

State = dict[str, Any]


def free_sgd(g: Array, s: State, y: Array, t: int, **own: Any) -> Array:
    return g + own.get("weight_decay", 0.0) * y


def free_adamw(g: Array, s: State, y: Array, t: int, **own: Any) -> Array:
    beta, eps = own.get("betas", (0.9, 0.999))[1], own.get("eps", 1e-8)
    s["v"] = beta * s.get("v", 0.0) + (1 - beta) * g * g
    return g / (np.sqrt(s["v"] / (1 - beta**t)) + eps) + own.get("weight_decay", 0.0) * y


class Free:
    """Defazio et al. 2024 with three sequences, as optax.contrib.schedule_free has them."""

    def __init__(self, direction: Callable[..., Array], w: Array, lr: float, **own: Any) -> None:
        self.y, self.z, self.x = w.copy(), w.copy(), w.copy()
        self.direction, self.lr, self.own = direction, lr, own
        self.beta = own.get("momentum", own.get("betas", (0.9,))[0])
        self.s: State = {}
        self.weights = self.largest = 0.0
        self.t = 0

    def step(self, g: Array) -> None:
        self.t += 1
        self.z = self.z - self.lr * self.direction(g, self.s, self.y, self.t, **self.own)
        self.largest = max(self.largest, self.lr)
        weight = self.largest ** self.own.get("weight_lr_power", 2.0)
        self.weights += weight
        c = weight / self.weights if self.weights else 0.0
        self.x = (1 - c) * self.x + c * self.z
        self.y = (1 - self.beta) * self.z + self.beta * self.x


FREE: list[tuple[str, Callable[..., Array], dict[str, Any]]] = [
    ("ScheduleFreeSGD", free_sgd, {"lr": 1.0}),
    ("ScheduleFreeSGD", free_sgd, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    ("ScheduleFreeAdamW", free_adamw, {"lr": 2.5e-3}),
    (
        "ScheduleFreeAdamW",
        free_adamw,
        {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.2, "weight_lr_power": 1.0},
    ),
]
every_free = pytest.mark.parametrize(("kind", "direction", "settings"), FREE)


@every_free
@every_dtype
def test_schedule_free_is_the_formula(
    isa: str, kind: str, direction: Callable[..., Array], settings: dict[str, Any], dtype: type
) -> None:
    params = start(dtype)
    opt = getattr(nf.optim, kind)(params, **settings)
    wide = [p.astype(np.float64) for p in params]
    free = [Free(direction, p, **settings) for p in wide]
    for t in range(1, 51):
        lr = opt.lr = settings["lr"] * min(1, t / 5, 1.5 - t / 50)  # a warm-up, and a fall
        opt.step(draw(dtype, t))
        for one, g in zip(free, draw(dtype, t), strict=True):
            one.lr = lr
            one.step(g.astype(np.float64))
    eps = np.finfo(np.float32 if dtype is np.float16 else dtype).eps
    kept = opt._master or params
    for p, x, one in zip(kept, opt.averaged_params(), free, strict=True):
        size = max(1.0, np.abs(one.z).max(initial=0))
        np.testing.assert_allclose(p, one.y, rtol=0, atol=200 * eps * size)
        np.testing.assert_allclose(x, one.x, rtol=0, atol=400 * eps * size)


@every_free
@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_schedule_free_is_resumed(
    kind: str, direction: Any, settings: dict[str, Any], way: str, tmp_path: Path
) -> None:
    def make() -> Any:
        a, *rest = start(np.float32)
        return getattr(nf.optim, kind)([{"params": [a], "lr": 0.1}, {"params": rest}], **settings)

    opt, other = make(), make()
    for t in range(3):
        opt.step(draw(np.float32, t))
    if way == "file":
        opt.save(tmp_path / "state.npz")
        other.load(tmp_path / "state.npz")
        for mine, theirs in zip(other.params, opt.params, strict=True):
            mine[...] = theirs
    else:
        other = copy.deepcopy(opt) if way == "copy" else pickle.loads(pickle.dumps(opt))
    for t in range(3, 6):
        for each in (opt, other):
            each.step(draw(np.float32, t))
    assert_same_arrays(everything(other), everything(opt))
    for a, b in zip(other.averaged_params(), opt.averaged_params(), strict=True):
        assert_same_bits(a, b)


def test_schedule_free_state_is_checked() -> None:
    opt = nf.optim.ScheduleFreeSGD([np.ones(3)])
    opt.step([np.ones(3)])
    state = opt.state_dict()
    before = everything(opt)
    for name in ("weight_sum", "largest_lr"):
        with pytest.raises(ValueError, match=f"'{name}'.* must not be negative"):
            opt.load_state_dict(state | {name: np.array([-1.0])})
    assert_same_arrays(everything(opt), before)


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("ScheduleFreeSGD", {"momentum": 0.0}, ValueError, r"momentum must be in \(0, 1\)"),
        ("ScheduleFreeAdamW", {"betas": (0.0, 0.9)}, ValueError, r"betas\[0\] must be above 0"),
        ("ScheduleFreeAdamW", {"ema_decay": 0.9}, ValueError, "ema_decay must not be given to"),
    ],
)
def test_numbers_are_checked(
    kind: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(nf.optim, kind)([np.ones((3, 3))], **settings)
