"""A slightly positive bias (0.01) leaves fewer ReLUs dead.

Three hidden layers of 100 ReLUs are trained with biases that begin at 0 or 0.01, once with first weights of 0.01 in
them, once with He's. A ReLU is dead if it gives 0 for every training image, so that its weights get no gradient.
"""

from functools import partial
from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

BIASES = (0.0, 0.01)
WEIGHTS = {"weights of 0.01": partial(nf.init.normal, std=0.01), "He's weights": nf.init.he_normal}


def dead(net: nf.nn.Sequential, x: common.Array) -> float:
    """The share of ReLUs that are."""
    found = []
    for layer in net:
        x = layer.forward(x)
        if isinstance(layer, nf.nn.ReLU):
            found.append(~x.any(axis=0))
    return float(np.mean(found))


def training(data: common.Digits, init: Any, bias: float, n: int, seed: int) -> common.Array:
    """Share of dead ReLUs and training loss, by epoch."""
    net = common.network([100] * 3, seed=seed)
    hidden = [layer for layer in net if isinstance(layer, nf.nn.Dense)][:-1]
    rng = np.random.default_rng(seed)
    for layer in hidden:
        init(out=layer.weight, rng=rng)
        nf.init.constant(value=bias, out=layer.bias)
    losses = common.epochs(net, nf.optim.SGD(net.params, lr=0.1), data, n, seed=seed)
    return np.array([(dead(net, data.x), loss) for loss in losses])


def run(quick: bool = False) -> common.Lesson:
    """Both weights with both biases, from several seeds."""
    data, n, seeds = common.digits(), 12 if quick else 20, range(2 if quick else 10)
    curves = {
        (name, bias): np.array([training(data, init, bias, n, seed) for seed in seeds])
        for name, init in WEIGHTS.items()
        for bias in BIASES
    }
    findings = []
    for name in WEIGHTS:
        (none, loss), (some, loss_too) = (
            np.mean(curves[name, bias][:, -1], axis=0) for bias in BIASES
        )
        text = (
            f"With {name}, {none:.1%} of the ReLUs are dead after {n} epochs where biases began at 0 "
            f"and {some:.1%} where they began at 0.01; the training losses are {loss:.2g} and "
            f"{loss_too:.2g} (means of {len(seeds)} seeds)."
        )
        findings.append(common.Finding(text, bool(some < none / 2) if "0.01" in name else None))
    return common.Lesson(findings, picture(curves))


def picture(curves: dict[tuple[str, float], common.Array]) -> Any:
    """Dead ReLUs and losses over the epochs."""
    drawn = common.figure()
    left, right = drawn.subplots(1, 2)
    for (name, bias), found in curves.items():
        steps = range(1, found.shape[1] + 1)
        shares, losses = np.moveaxis(found, -1, 0)
        style = f"C{BIASES.index(bias)}" + ("--" if "He" in name else "-")
        left.plot(steps, 100 * shares.mean(axis=0), style, lw=2, label=f"{name}, bias {bias:g}")
        right.plot(steps, losses.mean(axis=0), style, lw=2)
        for share, loss in zip(shares, losses, strict=True):
            left.plot(steps, 100 * share, style, lw=0.7, alpha=0.3)
            right.plot(steps, loss, style, lw=0.7, alpha=0.3)
    left.set(
        xlabel="epoch",
        ylabel="dead ReLUs, %",
        title="A bias of 0.01 keeps ReLUs of small weights alive",
    )
    right.set(xlabel="epoch", ylabel="training loss", yscale="log", title="and lets them learn")
    left.legend()
    common.tidy(left, right)
    return drawn


if __name__ == "__main__":
    page.main(run)
