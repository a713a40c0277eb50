"""With all weights zero every neuron of a layer stays the same. With all-positive inputs the gradients of a neuron's
weights share one sign.

A hidden layer of 32 sigmoids is trained from weights of zero, and from Xavier's, in float64: in float32 rounding can
break the symmetry within ten epochs, where a matrix product rounds differently from neuron to neuron. Then gradients of
such weights are taken for one image at a time: of pixels from 0 to 1, and of the same less their mean.
"""

from typing import Any

import numpy as np

import nnfast as nf
from bench.course import common, page

WIDTH = 32


def trained(data: common.Digits, init: str, n: int) -> tuple[common.Array, float]:
    """The hidden layer's weights, and the test accuracy."""
    net = common.network([WIDTH], nf.nn.Sigmoid, init=init, dtype=np.float64)
    list(common.epochs(net, nf.optim.SGD(net.params, lr=0.3), data, n))
    return net.params[0], common.accuracies(net, data)[1]


def difference(weight: common.Array) -> float:
    """How far the neurons of a layer are apart, in parts of the largest weight."""
    return float(np.ptp(weight, axis=1).max() / np.abs(weight).max())


def gradients(x: common.Array, labels: common.Array) -> common.Array:
    """Of the hidden layer's weights, for each image: an array (image, pixel, neuron)."""
    net = common.network([WIDTH], nf.nn.Sigmoid, init="xavier")
    found = []
    for row, label in zip(x, labels, strict=True):
        _, dz = nf.softmax_cross_entropy(net.forward(row[None], training=True), [label])
        net.backward(dz)
        found.append(net.grads[0].copy())
    return np.array(found)


def of_one_sign(grads: common.Array) -> float:
    """The share of neurons whose gradients are all of one sign, zeros aside."""
    return float(np.mean((grads >= 0).all(axis=1) | (grads <= 0).all(axis=1)))


def run(quick: bool = False) -> common.Lesson:
    """Both parts of the claim."""
    from sklearn.datasets import load_digits

    data, n, images = common.digits(), 5 if quick else 10, 100 if quick else 1000
    both = [trained(data, init, n) for init in ("zeros", "xavier")]
    weights, accuracies = zip(*both, strict=True)
    apart = [difference(weight) for weight in weights]
    pixels, labels = load_digits(return_X_y=True)
    raw = gradients(pixels[:images] / 16, labels[:images])
    centred = gradients((pixels[:images] - pixels.mean(axis=0)) / 16, labels[:images])
    findings = [
        common.Finding(
            f"After {n} epochs the weights of {WIDTH} neurons that began at zero differ by {apart[0]:.1g}, "
            f"in parts of the largest, those that began as Xavier's by {apart[1]:.1f}; the networks "
            f"are right on {accuracies[0]:.0%} and {accuracies[1]:.0%} of the test images.",
            apart[0] < 1e-3 < 0.1 < apart[1],
        ),
        common.Finding(
            f"Of pixels that are 0 or more, an image's gradients have one sign in "
            f"{of_one_sign(raw):.0%} of the neurons; of centred ones, in {of_one_sign(centred):.0%}.",
            of_one_sign(raw) == 1 and of_one_sign(centred) < 0.1,
        ),
    ]
    rows = {
        "weights that\nbegan at zero": weights[0],
        "weights from\nXavier's": weights[1],
        "gradients of\npositive pixels": raw[0],
        "gradients of\ncentred pixels": centred[0],
    }
    return common.Lesson(findings, picture(rows))


def picture(rows: dict[str, common.Array], neurons: int = 10) -> Any:
    """The first neurons of each row, as images."""
    drawn = common.figure(10, 4.6)
    grid = drawn.subplots(len(rows), neurons)
    for axes, (name, weight) in zip(grid, rows.items(), strict=True):
        largest = np.abs(weight[:, :neurons]).max()
        for i, ax in enumerate(axes):
            image = weight[:, i].reshape(8, 8)
            drawing = ax.imshow(image / largest, cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for i, ax in enumerate(grid[0]):
        ax.set_title(f"neuron {i + 1}", size=9)
    drawn.colorbar(drawing, ax=grid, label="parts of the largest", shrink=0.6)
    drawn.suptitle("From zero all neurons are one; of positive inputs a gradient has one sign")
    return drawn


if __name__ == "__main__":
    page.main(run)
