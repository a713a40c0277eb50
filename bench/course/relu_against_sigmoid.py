"""ReLU reaches a given training loss in a fraction of the epochs that sigmoid needs.

Three hidden layers of 100 are trained by SGD until the training loss is 0.1. Each activation has the first weights that
suit it, He's and Xavier's, and the best of six learning rates.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

TARGET = 0.1
RATES, FEW_RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (0.3, 3.0)
SETTINGS: dict[str, tuple[type[nf.nn.Layer], str]] = {
    "sigmoid": (nf.nn.Sigmoid, "xavier"),
    "ReLU": (nf.nn.ReLU, "he"),
}


def losses(data: common.Digits, name: str, lr: float, n: int, seed: int) -> list[float]:
    """The training loss of every epoch."""
    activation, init = SETTINGS[name]
    net = common.network([100] * 3, activation, init=init, seed=seed)
    opt = nf.optim.SGD(net.params, lr=lr)
    return list(common.epochs(net, opt, data, n, seed=seed))


def run(quick: bool = False) -> common.Lesson:
    """Every rate from several seeds; the best has the smallest median."""
    data, n, seeds = common.digits(), 16 if quick else 40, range(1 if quick else 5)
    rates = FEW_RATES if quick else RATES
    curves, medians, best = {}, {}, {}
    for name in SETTINGS:
        found = {lr: [losses(data, name, lr, n, seed) for seed in seeds] for lr in rates}
        epochs = [[common.needed(curve, TARGET) for curve in found[lr]] for lr in rates]
        medians[name] = [float(median) for median in np.median(epochs, axis=1)]
        best[name] = rates[int(np.argmin(medians[name]))]
        curves[name] = found[best[name]]
    fewest = {name: min(found) for name, found in medians.items()}
    at_best = [f"{name} {fewest[name]:.0f} epochs (rate {best[name]:g})" for name in SETTINGS]
    at_each = [
        f"{lr:g}: {slow:.0f} and {fast:.0f}"
        for lr, slow, fast in zip(rates, *medians.values(), strict=True)
    ]
    findings = [
        common.Finding(
            f"To a loss of {TARGET:g}, each at its best rate, " + ", ".join(at_best) + ".",
            fewest["ReLU"] <= fewest["sigmoid"] / 2 and fewest["ReLU"] < n,
        ),
        common.Finding(
            f"Epochs of {' and '.join(SETTINGS)} at each rate (inf: not within {n}): "
            + ", ".join(at_each)
            + "."
        ),
    ]
    return common.Lesson(findings, picture(curves, best, rates, medians))


def picture(
    curves: dict[str, Any],
    best: dict[str, float],
    rates: tuple[float, ...],
    medians: dict[str, Any],
) -> Any:
    """The losses at the best rates, and the epochs over the rate."""
    drawn = common.figure()
    left, right = drawn.subplots(1, 2)
    for i, (name, found) in enumerate(curves.items()):
        for curve in found:
            label = f"{name}, rate {best[name]:g}" if curve is found[0] else None
            left.plot(range(1, len(curve) + 1), curve, color=f"C{i}", alpha=0.7, label=label)
        right.plot(rates, medians[name], "o-", color=f"C{i}", label=name)
    left.axhline(TARGET, color="grey", ls="--", lw=1)
    left.set(
        xlabel="epoch",
        ylabel="training loss",
        yscale="log",
        title="At its best rate, ReLU needs a fraction of the epochs",
    )
    right.set(
        xlabel="learning rate",
        ylabel=f"epochs to a loss of {TARGET:g}",
        xscale="log",
        xlim=(rates[0] / 1.4, rates[-1] * 1.4),
        ylim=0,
        title="No rate makes up for it (no point: not reached)",
    )
    left.legend()
    right.legend()
    common.tidy(left, right)
    return drawn


if __name__ == "__main__":
    page.main(run)
