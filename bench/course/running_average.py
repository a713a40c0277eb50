"""The running average of the parameters tests better than the last iterate.

A network with dropout is trained by SGD in small batches, so that its parameters keep jumping about. A second network
holds their running average over about the last hundred steps. The rate is constant, or falls to 0 along a cosine, which
calms the parameters down as well.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

LR, DECAY, HIDDEN = 0.1, 0.99, [100, 100]


def accuracies(data: common.Digits, n: int, seed: int, schedule: nf.schedules.Schedule) -> Any:
    """On the test images, of the last iterate and of the average, by epoch."""
    net, average = common.network(HIDDEN, p=0.5, seed=seed), common.network(HIDDEN)
    opt = nf.optim.SGD(net.params, lr=schedule(0), ema_decay=DECAY)
    found = []
    for _ in common.epochs(net, opt, data, n, batch=8, seed=seed):
        for own, mean in zip(average.params, opt.averaged_params(), strict=True):
            own[...] = mean
        found.append([common.accuracies(each, data)[1] for each in (net, average)])
        opt.lr = schedule(len(found))
    return found


def run(quick: bool = False) -> common.Lesson:
    """Both schedules on several draws of images; the second half of the epochs counts."""
    images, n, seeds = (300, 10, range(5)) if quick else (1000, 20, range(10))
    draws = [common.digits(images, seed) for seed in seeds]
    schedules = {"constant": nf.schedules.Constant(LR), "falling": nf.schedules.Cosine(LR, n)}
    curves = {
        name: 100 * np.array([accuracies(data, n, s, schedule) for s, data in enumerate(draws)])
        for name, schedule in schedules.items()
    }
    findings = []
    for name, found in curves.items():
        last, average = found[:, n // 2 :].mean(axis=1).T
        better, error = common.mean_and_error(average - last)
        text = (
            f"At a {name} rate the last iterate is right on {last.mean():.2f}% of the test images, the "
            f"average on {average.mean():.2f}%: {better:+.2f} ± {error:.2f} points (epochs from the "
            f"{n // 2 + 1}th on, standard error of {len(seeds)} draws)."
        )
        shown = better > 2 * error if name == "constant" else None
        findings.append(common.Finding(text, shown))
    return common.Lesson(findings, picture(curves))


def picture(curves: dict[str, common.Array]) -> Any:
    """Test accuracy over the epochs."""
    drawn = common.figure()
    titles = {
        "constant": "At a constant rate the average tests better",
        "falling": "As the rate falls, the two become one",
    }
    axes = drawn.subplots(1, 2, sharey=True)
    for ax, (name, found) in zip(axes, curves.items(), strict=True):
        steps = range(1, found.shape[1] + 1)
        for i, label in enumerate(("last iterate", "running average")):
            for curve in found[:, :, i]:
                ax.plot(steps, curve, f"C{i}", alpha=0.2, lw=1)
            ax.plot(steps, found[:, :, i].mean(axis=0), f"C{i}", lw=2, label=label)
        ax.set(xlabel="epoch", title=titles[name])
    common.tidy(*axes)
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(loc="lower right")
    axes[0].set_ylim(np.percentile([found[:, 1:] for found in curves.values()], 1), None)
    return drawn


if __name__ == "__main__":
    page.main(run)
