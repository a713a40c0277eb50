"""Ten tanh layers: with weights of 0.01 the activations collapse to 0 with depth, with weights of 1 they saturate, with
Xavier's they keep their spread. With ReLUs and Xavier's weights they decay by half a layer, with He's they do not.

The digits go through ten layers of random weights, untrained. What decays by half is the mean square.
"""

from functools import partial
from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

DEPTH = 10
SMALL, LARGE = partial(nf.init.normal, std=0.01), partial(nf.init.normal, std=1.0)
SETTINGS: dict[str, tuple[type[nf.nn.Layer], Any]] = {
    "tanh, weights of 0.01": (nf.nn.Tanh, SMALL),
    "tanh, weights of 1": (nf.nn.Tanh, LARGE),
    "tanh, Xavier": (nf.nn.Tanh, "xavier"),
    "ReLU, Xavier": (nf.nn.ReLU, "xavier"),
    "ReLU, He": (nf.nn.ReLU, "he"),
}


def activations(x: common.Array, name: str, width: int, seed: int) -> list[common.Array]:
    """What each layer gives."""
    activation, init = SETTINGS[name]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(DEPTH):
        x = nf.nn.Dense(x.shape[1], width, init=init, rng=rng).forward(x)
        x = activation().forward(x)
        found.append(x)
    return found


def run(quick: bool = False) -> common.Lesson:
    """Every setting from several seeds."""
    x = common.digits(300 if quick else 1437).x
    width, seeds = 200 if quick else 500, range(5)
    kept, squares, saturated = [], [], []  # one each for every setting
    shown = {}
    for name in SETTINGS:
        runs = [activations(x, name, width, seed) for seed in seeds]
        shown[name] = runs[0]
        spread = np.mean([[y.std() for y in layers] for layers in runs], axis=0)
        kept.append(spread[-1] / spread[0])
        ratios = [np.square(ys[-1]).mean() / np.square(ys[0]).mean() for ys in runs]
        squares.append(np.mean(np.power(ratios, 1 / (DEPTH - 1))))
        saturated.append(np.mean([np.abs(layers[-1]) > 0.99 for layers in runs]))
    findings = [
        common.Finding(
            f"With weights of 0.01 the tenth layer has {kept[0]:.1g} times the first one's spread.",
            bool(kept[0] < 1e-3),
        ),
        common.Finding(
            f"With weights of 1, {saturated[1]:.0%} of the tenth layer lie beyond ±0.99.",
            bool(saturated[1] > 0.5),
        ),
        common.Finding(
            f"With Xavier's, the tenth layer keeps {kept[2]:.0%} of the first one's spread, and "
            f"{saturated[2]:.0%} of it lie beyond ±0.99.",
            bool(kept[2] > 0.5 and saturated[2] < 0.01),
        ),
        common.Finding(
            f"With ReLUs the mean square is multiplied by {squares[3]:.2f} in a layer of Xavier's "
            f"weights and by {squares[4]:.2f} in one of He's.",
            bool(abs(squares[3] - 0.5) < 0.05 and abs(squares[4] - 1) < 0.1),
        ),
    ]
    return common.Lesson(findings, picture(shown))


def picture(shown: dict[str, list[common.Array]]) -> Any:
    """A histogram of each layer, ReLU's zeros left out."""
    drawn = common.figure(12, 6)
    rows = drawn.subplots(len(shown), DEPTH)
    for axes, (name, layers) in zip(rows, shown.items(), strict=True):
        low, high, color = (-1, 1, "C0") if "tanh" in name else (0, 2, "C1")
        for i, (ax, y) in enumerate(zip(axes, layers, strict=True), 1):
            counts, edges = np.histogram(y[y != 0], np.linspace(low, high, 31))
            ax.stairs(counts / max(counts.max(), 1), edges, fill=True, color=color)
            ax.set(xlim=(low - 0.1, high + 0.1), ylim=(0, 1.1), yticks=[], xticks=[low, high])
            head = f"layer {i}\n" if axes[0] is rows[0, 0] else ""
            ax.set_title(f"{head}σ = {y.std():.2g}", size=8)
            ax.tick_params(labelsize=7)
        axes[0].set_ylabel(name.replace(", ", ",\n"), rotation=0, ha="right", va="center")
    drawn.suptitle(
        "Activations of ten layers: collapsed, saturated, kept; behind ReLUs decaying, kept"
    )
    return drawn


if __name__ == "__main__":
    page.main(run)
