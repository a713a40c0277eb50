"""Random search finds a better setting than grid search with the same number of trials, if only one parameter matters.

A network of two hidden layers is trained for three epochs: its learning rate matters, its weight decay, always small,
does not. Nine trials are a grid of three rates and three decays, or nine random pairs. The rates span four decades with
the best one among them; nobody knows where it lies, so where the span begins is drawn anew for each pair of searches.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

SPAN, DECAYS, DIVERGED = 1e4, (1e-7, 1e-4), 10.0


def loss(data: common.Digits, lr: float, wd: float) -> float:
    """What a setting leads to on images held out."""
    net = common.network([100, 100])
    list(common.epochs(net, nf.optim.SGD(net.params, lr=lr, weight_decay=wd), data, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # of a rate that is too high
        found, _ = nf.softmax_cross_entropy(net.forward(data.x_test), data.labels_test)
    return float(np.fmin(found, DIVERGED))


def searches(data: common.Digits, seed: int) -> list[Any]:
    """Rate, decay and loss of every trial, of a grid and a random search in the same span."""
    from scipy.stats import loguniform
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    low = 10 ** np.random.default_rng(seed).uniform(-4, -2)
    high = low * SPAN
    grid = ParameterGrid({"lr": np.geomspace(low, high, 3), "wd": np.geomspace(*DECAYS, 3)})
    spread = {"lr": loguniform(low, high), "wd": loguniform(*DECAYS)}
    return [
        [(trial["lr"], trial["wd"], loss(data, **trial)) for trial in settings]
        for settings in (grid, ParameterSampler(spread, len(grid), random_state=seed))
    ]


def run(quick: bool = False) -> common.Lesson:
    """Many pairs of searches."""
    data, n = common.digits(300 if quick else 1000), 25 if quick else 60
    trials = np.array([searches(data, seed) for seed in range(n)])  # pair, search, trial, its three
    grid, random = trials[..., 2].min(axis=2).T
    gain, error = common.mean_and_error(np.log(grid / random))
    on_grid = trials[:, 0, :, 2].reshape(n, 3, 3)  # by rate and decay
    by_rate = np.median(on_grid.max(axis=(1, 2)) / on_grid.min(axis=(1, 2)))
    at_best = on_grid[np.arange(n), on_grid.min(axis=2).argmin(axis=1)]
    by_decay = np.median(at_best.max(axis=1) / at_best.min(axis=1))
    findings = [
        common.Finding(
            f"The best of {trials.shape[2]} trials has a loss of {np.median(random):.3f} by random "
            f"search and {np.median(grid):.3f} by grid search (medians of {n} pairs). Random search "
            f"wins {np.mean(random < grid):.0%} of the pairs; the logarithm of its loss is lower by "
            f"{gain:.2f} ± {error:.2f} (standard error).",
            gain > 2 * error,
        ),
        common.Finding(
            f"On a grid the loss changes by a factor of {by_rate:.0f} with the rate and, at the best "
            f"rate, by one of {by_decay:.3f} with the decay (medians)."
        ),
    ]
    return common.Lesson(findings, picture(trials, grid, random))


def picture(trials: common.Array, grid: common.Array, random: common.Array) -> Any:
    """The trials of one pair, and the best losses of all."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator

    drawn = common.figure(12, 3.6)
    *planes, right = drawn.subplots(1, 3)
    planes[1].sharex(planes[0])
    planes[1].sharey(planes[0])
    for ax, search, name in zip(planes, trials[0], ("Grid", "Random"), strict=True):
        rates, decays, losses = search.T
        for lr in rates:
            ax.axvline(lr, color="grey", lw=0.6, zorder=1)
        colors = {"c": losses, "norm": LogNorm(0.05, DIVERGED), "cmap": "viridis_r"}
        drawing = ax.scatter(rates, decays, s=60, **colors)
        ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="weight decay")
        ax.set_title(f"{name}: {len(set(rates))} rates in {len(rates)} trials")
    drawn.colorbar(drawing, ax=planes, label="held-out loss")
    right.plot(grid, random, "o", ms=4, alpha=0.7)
    right.axline((0.1, 0.1), slope=1, color="grey", lw=1)
    ends = min(grid.min(), random.min()) / 1.2, max(grid.max(), random.max()) * 1.2
    right.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="best loss of grid search")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    right.set(ylabel="best loss of random search", title="Below the line random search wins")
    return drawn


if __name__ == "__main__":
    page.main(run)
