"""Is it training faster? Loss over wall time, with and without BatchNorm, for SGD, momentum and Adam.

BatchNorm makes every step longer, so fewer steps alone are no gain. It is tried on five hidden layers of 100 sigmoids,
which are slow to train, and beside that on three of ReLUs with He's weights, which are not. Each curve has the best of
four learning rates, and for its milliseconds the epochs times their median length.
"""

from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

TARGET = 0.3
RULES: dict[str, Any] = {
    "SGD": (nf.optim.SGD, (0.1, 0.3, 1.0, 3.0)),
    "momentum": (partial(nf.optim.SGD, momentum=0.9), (0.01, 0.03, 0.1, 0.3)),
    "Adam": (nf.optim.Adam, (0.001, 0.003, 0.01, 0.03)),
}
NETWORKS: dict[str, Any] = {
    "sigmoids": {"hidden": [100] * 5, "activation": nf.nn.Sigmoid, "init": "xavier"},
    "ReLUs": {"hidden": [100] * 3, "activation": nf.nn.ReLU, "init": "he"},
}


def curves_of(data: common.Digits, network: str, rule: str, quick: bool) -> list[Any]:
    """Without and with BatchNorm, the losses of the best training's epochs, and the median milliseconds of an epoch."""
    make, rates = RULES[rule]
    n = 12 if quick else 30
    found: list[list[Any]] = [[], []]
    times: list[list[float]] = [[], []]
    for lr in rates[1:2] if quick else rates:
        nets = [common.network(**NETWORKS[network], norm=norm) for norm in (False, True)]
        trainings = [common.epochs(net, make(net.params, lr=lr), data, n) for net in nets]
        losses: list[list[float]] = [[], []]
        for i in [0, 1] * n:  # an epoch each in turn, so that a busy machine slows down both
            begin = perf_counter()
            losses[i].append(next(trainings[i]))
            if np.isfinite(losses[i][-1]):
                times[i].append(1e3 * (perf_counter() - begin))
        for i in (0, 1):
            found[i].append(losses[i])
    best = [min(each, key=lambda c: (common.needed(c, TARGET), c[-1])) for each in found]
    return list(zip(best, map(np.median, times), strict=True))


def run(quick: bool = False) -> common.Lesson:
    """Both networks with all rules."""
    data, pairs = common.digits(), [(network, rule) for network in NETWORKS for rule in RULES]
    curves = {pair: curves_of(data, *pair, quick) for pair in pairs}
    epochs = {pair: [common.needed(losses, TARGET) for losses, _ in curves[pair]] for pair in pairs}
    times = {pair: np.multiply(epochs[pair], [c[1] for c in curves[pair]]) for pair in pairs}
    ends = {pair: [losses[-1] for losses, _ in curves[pair]] for pair in pairs}
    longer = np.median([norm[1] / plain[1] for plain, norm in curves.values()])

    def told(found: dict[Any, Any], network: str) -> str:
        each = [f"{rule} {{:.3g}} and {{:.3g}}".format(*found[network, rule]) for rule in RULES]
        return f"{network} without and with BatchNorm: {', '.join(each)}."

    def faster(found: dict[Any, Any]) -> bool:
        return all(found["sigmoids", rule][1] < found["sigmoids", rule][0] for rule in RULES)

    findings = [
        common.Finding(
            f"Epochs to a loss of {TARGET:g} (inf: not reached), {told(epochs, 'sigmoids')}",
            faster(epochs),
        ),
        common.Finding(
            f"Milliseconds to it, {told(times, 'sigmoids')} Each epoch takes {longer:.2f} times as long with it.",
            faster(times),
        ),
        *(common.Finding(f"Loss in the end, {told(ends, network)}") for network in NETWORKS),
    ]
    return common.Lesson(findings, picture(curves))


def picture(curves: dict[tuple[str, str], list[Any]]) -> Any:
    """Loss over milliseconds."""
    drawn = common.figure(11, 6)
    axes = drawn.subplots(len(NETWORKS), len(RULES), sharex="row", sharey="row")
    for ax, (names, pair) in zip(axes.ravel(), curves.items(), strict=True):
        for (losses, length), label in zip(pair, ("without", "with BatchNorm"), strict=True):
            ax.plot(length * np.arange(1, len(losses) + 1), losses, ".-", label=label)
        ax.axhline(TARGET, color="grey", ls="--", lw=1)
        ax.set(yscale="log", title=", ".join(names))
    common.tidy(*axes.ravel())
    axes[0, 0].legend()
    drawn.supxlabel("milliseconds of training")
    drawn.supylabel("training loss")
    drawn.suptitle("By the clock BatchNorm speeds up deep sigmoids, not ReLUs of He's weights")
    return drawn


if __name__ == "__main__":
    page.main(run)
