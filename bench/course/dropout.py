"""Dropout narrows the gap between training and test accuracy. Vanilla and inverted dropout predict the same.

Three hidden layers of 100 ReLUs with dropout learn from 100 images, few enough to know them by heart, and are tested on
all others. Inverted dropout scales what it keeps by 2 in training, vanilla dropout everything by 1/2 at test time: the
same network, if the layers behind a vanilla dropout begin with twice the weights and learn at four times the rate.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

HIDDEN, P, LR = [100] * 3, 0.5, 0.1


def accuracies(data: common.Digits, p: float, n: int, seed: int) -> common.Array:
    """On training and test images, every ten epochs."""
    net = common.network(HIDDEN, p=p, seed=seed)
    training = common.epochs(net, nf.optim.SGD(net.params, lr=LR), data, n, seed=seed)
    return np.array(
        [common.accuracies(net, data) for i, _ in enumerate(training, 1) if i % 10 == 0]
    )


def both_kinds(data: common.Digits, n: int) -> list[common.Array]:
    """The test scores of the network with inverted and with vanilla dropout, trained alike."""
    scores = []
    for mode in ("inverted", "vanilla"):
        net = common.network(HIDDEN, p=P, mode=mode)
        params, rates = net.named_params(), dict.fromkeys(net.named_params(), LR)
        if mode == "vanilla":
            for name in [name for name in params if name.endswith("weight")][1:]:
                params[name] /= 1 - P
                rates[name] /= (1 - P) ** 2
        opt = nf.optim.SGD([{"params": [params[name]], "lr": rates[name]} for name in params])
        list(common.epochs(net, opt, data, n))
        scores.append(net.forward(data.x_test))
    return scores


def run(quick: bool = False) -> common.Lesson:
    """Without and with dropout on several draws of images; then both kinds of it."""
    seeds, n = range(4 if quick else 10), 80 if quick else 200
    draws = [common.digits(100, seed) for seed in seeds]
    curves = {
        p: np.array([accuracies(data, p, n, s) for s, data in enumerate(draws)]) for p in (0.0, P)
    }
    gaps = {p: 100 * (found[:, -1, 0] - found[:, -1, 1]) for p, found in curves.items()}
    less, error = common.mean_and_error(gaps[0] - gaps[P])
    inverted, vanilla = both_kinds(draws[0], n)
    same = np.mean(inverted.argmax(axis=1) == vanilla.argmax(axis=1))
    far = np.abs(inverted - vanilla).max() / inverted.std()
    return common.Lesson(
        [
            common.Finding(
                f"The gap is {gaps[0].mean():.1f} points without and {gaps[P].mean():.1f} with "
                f"dropout, narrower by {less:.1f} ± {error:.1f} (standard error, {len(seeds)} draws).",
                less > 2 * error,
            ),
            common.Finding(
                f"Vanilla and inverted dropout name the same class of {same:.1%} of the test images, and "
                f"no score differs by more than {far:.1g} standard deviations of the scores.",
                bool(same > 0.999 and far < 1e-3),
            ),
        ],
        picture(curves, inverted, vanilla),
    )


def picture(
    curves: dict[float, common.Array], inverted: common.Array, vanilla: common.Array
) -> Any:
    """The accuracies on the way, and the scores of both kinds."""
    drawn = common.figure()
    left, right = drawn.subplots(1, 2)
    for i, (p, found) in enumerate(curves.items()):
        name = "dropout" if p else "no dropout"
        train, test = found.mean(axis=0).T
        steps = range(10, 10 * len(test) + 1, 10)
        left.plot(steps, train, f"C{i}--", label=f"{name}, training")
        left.plot(steps, test, f"C{i}", label=f"{name}, test")
    left.set(xlabel="epoch", ylabel="accuracy", ylim=(0.7, 1.01), title="Dropout narrows the gap")
    right.plot(inverted.ravel(), vanilla.ravel(), ".", ms=3)
    right.set(
        xlabel="score with inverted dropout",
        ylabel="score with vanilla dropout",
        title="Both kinds predict the same",
    )
    left.legend()
    common.tidy(left, right)
    return drawn


if __name__ == "__main__":
    page.main(run)
