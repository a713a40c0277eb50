"""Batch normalization makes a badly initialised network train, and tolerates learning rates ten times higher.

Ten hidden layers of 100 ReLUs are trained by SGD: from weights of 0.01, at a learning rate of 0.1; and from He's, at
higher and higher rates. A rate is tolerated if it and all lower ones leave less than half of an untrained network's
loss, from every seed.
"""

from functools import partial
from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

NAMES = {False: "without", True: "with BatchNorm"}
TRAINED, DIVERGED = np.log(10) / 2, 3.0


def losses(data: common.Digits, norm: bool, init: Any, lr: float, n: int, seed: int) -> list[float]:
    """The training loss of every epoch."""
    net = common.network([100] * 10, norm=norm, init=init, seed=seed)
    return list(common.epochs(net, nf.optim.SGD(net.params, lr=lr), data, n, seed=seed))


def tolerated(rates: common.Array, last: common.Array) -> float:
    """The highest rate up to which every seed trains, 0 if none is; last has a row for each rate."""
    trains = np.append((last < TRAINED).all(axis=1), False)
    return float(np.append(0, rates)[np.argmin(trains)])


def run(quick: bool = False) -> common.Lesson:
    """Both halves, without and with BatchNorm."""
    data, seeds, n = common.digits(), range(1 if quick else 5), 4 if quick else 10
    rates = 10.0 ** (np.arange(-1, 2) if quick else np.arange(-1.5, 0.8, 0.125))
    small = partial(nf.init.normal, std=0.01)
    curves = {norm: [losses(data, norm, small, 0.1, n, seed) for seed in seeds] for norm in NAMES}
    end = {norm: np.median([curve[-1] for curve in curves[norm]]) for norm in NAMES}
    last = {
        norm: np.array([[losses(data, norm, "he", lr, n, s)[-1] for s in seeds] for lr in rates])
        for norm in NAMES
    }
    highest = {norm: tolerated(rates, last[norm]) for norm in NAMES}
    findings = [
        common.Finding(
            f"From weights of 0.01, {n} epochs lead to a loss of {end[False]:.2f} without and "
            f"{end[True]:.2f} with it (untrained: {np.log(10):.2f}).",
            bool(end[False] > 0.99 * np.log(10) and end[True] < TRAINED),
        ),
        common.Finding(
            f"From He's weights the highest rate tolerated is {highest[False]:.2g} without and "
            f"{highest[True]:.2g} with it.",
            highest[True] > 9.9 * highest[False] > 0,
        ),
    ]
    return common.Lesson(findings, picture(curves, rates, last))


def picture(curves: dict[bool, Any], rates: common.Array, last: dict[bool, common.Array]) -> Any:
    """Losses from small weights, and where He's end over the rate."""
    drawn = common.figure()
    left, right = drawn.subplots(1, 2)
    for norm, name in NAMES.items():
        for curve in curves[norm]:
            label = name if curve is curves[norm][0] else None
            left.plot(range(1, len(curve) + 1), curve, f"C{norm:d}.-", alpha=0.7, label=label)
        ends = np.minimum(last[norm], DIVERGED)
        right.plot(rates, ends, f"C{norm:d}.", alpha=0.4)
        right.plot(rates, np.median(ends, axis=1), f"C{norm:d}")
    left.set(xlabel="epoch", title="From weights of 0.01 only BatchNorm trains", ylim=(0, 2.6))
    right.axhline(TRAINED, color="grey", ls="--", lw=1)
    right.text(rates[0], TRAINED, "tolerated below", va="top", color="grey")
    right.set(
        xlabel="learning rate",
        title="From He's it bears higher learning rates",
        ylim=(0, DIVERGED + 0.2),
    )
    right.set(xscale="log", yticks=[0, 1, 2, DIVERGED], yticklabels=["0", "1", "2", "diverged"])
    for ax in (left, right):
        ax.set_ylabel(
            f"training loss after {len(curve)} epochs" if ax is right else "training loss"
        )
    common.tidy(left, right)
    left.legend(loc="center right")
    return drawn


if __name__ == "__main__":
    page.main(run)
