"""The mean of many dropout masks agrees with the test-time network.

Trained networks of ReLUs with dropout, p = 0.5, after one hidden layer or two, predict the test images a thousand times
with masks, as in training, and once without. The mean over masks is taken of the scores, which is a geometric mean of
probabilities, and of the probabilities. The distance of two predictions is their total variation, between 0 and 1.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

COUNTS = (1, 3, 10, 30, 100, 300, 1000)


def scores(
    depth: int, data: common.Digits, n: int, masks: int
) -> tuple[common.Array, common.Array]:
    """Those of the trained network at test time, and those with each mask."""
    net = common.network([100] * depth, p=0.5)
    list(common.epochs(net, nf.optim.SGD(net.params, lr=0.1), data, n))
    masked = [net.forward(data.x_test, training=True).copy() for _ in range(masks)]
    return net.forward(data.x_test), np.array(masked)


def distance(a: common.Array, b: common.Array) -> float:
    """Total variation, in the mean over the images."""
    return float(np.abs(a - b).sum(axis=1).mean() / 2)


def run(quick: bool = False) -> common.Lesson:
    """One hidden layer and two."""
    data, n = common.digits(), 10 if quick else 30
    counts = [k for k in COUNTS if k <= (300 if quick else 1000)]
    mean = nf.averaging.mean_of_predictions
    curves: dict[str, tuple[list[float], list[float]]] = {}
    findings = []
    for depth, layers in ((1, "one hidden layer"), (2, "two hidden layers")):
        test, masked = scores(depth, data, n, counts[-1])
        target, probabilities = nf.softmax(test), nf.softmax(masked)
        means = {
            "scores": [np.exp(mean(masked[:k], kind="log")) for k in counts],
            "probabilities": [mean(probabilities[:k]) for k in counts],
        }
        for kind, found in means.items():
            same = [float(np.mean(p.argmax(axis=1) == test.argmax(axis=1))) for p in found]
            curves[f"{kind}, {layers}"] = [distance(p, target) for p in found], same
        (far, same), (far_too, same_too) = (curves[f"{kind}, {layers}"] for kind in means)
        sure, sure_too = (p.max(axis=1).mean() for p in (target, means["probabilities"][-1]))
        findings += [
            common.Finding(
                f"With {layers} one mask is {far[0]:.2g} from the test-time network and names the "
                f"same class of {same[0]:.1%}; the mean score of {counts[-1]} masks is {far[-1]:.2g} "
                f"from it and names the same class of {same[-1]:.1%}.",
                far[-1] < far[0] / 10 and same[-1] > 0.98,
            ),
            common.Finding(
                f"Their mean probability names the same class of {same_too[-1]:.1%}, but is "
                f"{far_too[-1]:.2g} from it: its best class has a probability of {sure_too:.2f}, that of "
                f"the test-time network {sure:.2f}."
            ),
        ]
    return common.Lesson(findings, picture(counts, curves))


def picture(counts: list[int], curves: dict[str, tuple[list[float], list[float]]]) -> Any:
    """Distance and agreement over the number of masks."""
    drawn = common.figure()
    left, right = drawn.subplots(1, 2)
    for i, (name, (far, same)) in enumerate(curves.items()):
        style = f"C{i // 2}" + ("o--" if "probabilities" in name else "o-")
        left.plot(counts, far, style, ms=4)
        right.plot(counts, same, style, ms=4, label=f"mean of {name}")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="masks",
        ylabel="distance from the test-time network",
        title="The mean score of many masks approaches it",
    )
    right.set(
        xscale="log",
        xlabel="masks",
        ylabel="share of images with the same class",
        title="Either mean names its classes",
    )
    right.legend(loc="lower right")
    common.tidy(left, right)
    return drawn


if __name__ == "__main__":
    page.main(run)
