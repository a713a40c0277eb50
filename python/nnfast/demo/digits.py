"""The demo: a network with BatchNorm, ReLU, dropout and Adam on handwritten digits.

``FastNetwork`` is written in NumPy over nnfast's functions, ``PlainNetwork`` is the same network in NumPy alone. Both
start from the same weights, see the same batches and are trained an epoch each in turn.
"""

from __future__ import annotations

import math
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnfast as nf

F32 = NDArray[np.float32]
EPS, MOMENTUM = 1e-5, 0.1


def he_weights(sizes: list[int], rng: np.random.Generator) -> list[F32]:
    """Weights (n_in, n_out) of variance 2 / n_in for every layer (He et al. 2015)."""
    return [
        rng.normal(0, math.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        for n_in, n_out in pairwise(sizes)
    ]


class Network:
    """The parameters of a network: hidden layers of dense, BatchNorm, ReLU and dropout, then a dense layer."""

    def __init__(self, sizes: list[int], dropout: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dropout = dropout
        self.weights = he_weights(sizes, self.rng)
        self.bias = np.zeros(sizes[-1], np.float32)
        self.gammas = [np.ones(n, np.float32) for n in sizes[1:-1]]
        self.betas = [np.zeros(n, np.float32) for n in sizes[1:-1]]
        self.means = [np.zeros(n, np.float32) for n in sizes[1:-1]]
        self.variances = [np.ones(n, np.float32) for n in sizes[1:-1]]
        self.params = [*self.weights, self.bias, *self.gammas, *self.betas]
        self.lr = 1e-3


class FastNetwork(Network):
    """The network over nnfast."""

    def __init__(self, sizes: list[int], dropout: float, seed: int) -> None:
        super().__init__(sizes, dropout, seed)
        self.adam = nf.optim.Adam(self.params)

    def train_step(self, x: F32, labels: NDArray[Any]) -> float:
        """One forward pass, backward pass and update; the loss."""
        saved = []
        h = x
        for i, w in enumerate(self.weights[:-1]):
            z = h @ w
            running = self.means[i], self.variances[i]
            y, stats = nf.batch_norm(z, self.gammas[i], self.betas[i], *running, training=True)
            nf.relu(y, out=y)
            _, mask = nf.dropout(y, self.dropout, rng=self.rng, out=y)
            saved.append((h, z, stats, y, mask))
            h = y
        loss, dz = nf.softmax_cross_entropy(h @ self.weights[-1] + self.bias, labels)

        dweights, dbias = [h.T @ dz], dz.sum(axis=0)
        dgammas: list[F32] = []
        dbetas: list[F32] = []
        dh = dz @ self.weights[-1].T
        for i, (h, z, stats, y, mask) in reversed(list(enumerate(saved))):
            nf.dropout_backward(dh, mask, self.dropout, out=dh)
            nf.relu_backward(dh, y, out=dh)
            dz, dgamma, dbeta = nf.batch_norm_backward(dh, z, self.gammas[i], stats)
            dweights.insert(0, h.T @ dz)
            dgammas.insert(0, dgamma)
            dbetas.insert(0, dbeta)
            if i > 0:  # the gradient of the data is not needed
                dh = dz @ self.weights[i].T
        self.adam.lr = self.lr
        self.adam.step([*dweights, dbias, *dgammas, *dbetas])
        return float(loss)

    def predict(self, x: F32) -> NDArray[Any]:
        """The likeliest class of every row."""
        for i, w in enumerate(self.weights[:-1]):
            running = self.means[i], self.variances[i]
            y, _ = nf.batch_norm(x @ w, self.gammas[i], self.betas[i], *running, training=False)
            x = nf.relu(y, out=y)
        return np.asarray(np.argmax(x @ self.weights[-1] + self.bias, axis=1))


class PlainNetwork(Network):
    """The same in NumPy alone, as one writes it."""

    def __init__(self, sizes: list[int], dropout: float, seed: int) -> None:
        super().__init__(sizes, dropout, seed)
        self.m = [np.zeros_like(p) for p in self.params]
        self.v = [np.zeros_like(p) for p in self.params]
        self.t = 0

    def train_step(self, x: F32, labels: NDArray[Any]) -> float:
        """One forward pass, backward pass and update; the loss."""
        saved = []
        h, keep, n = x, np.float32(1 - self.dropout), len(x)
        for i, w in enumerate(self.weights[:-1]):
            z = h @ w
            mean, var = z.mean(axis=0), z.var(axis=0)
            self.means[i] += MOMENTUM * (mean - self.means[i])
            self.variances[i] += MOMENTUM * (var * (n / (n - 1)) - self.variances[i])
            inv_std = 1 / np.sqrt(var + EPS)
            normalized = (z - mean) * inv_std
            y = np.maximum(self.gammas[i] * normalized + self.betas[i], 0)
            mask = (self.rng.random(y.shape, dtype=np.float32) < keep) / keep
            saved.append((h, normalized, inv_std, y, mask))
            h = y * mask
        z = h @ self.weights[-1] + self.bias
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(n), labels]).mean()
        dz = p
        dz[np.arange(n), labels] -= 1
        dz /= n

        dweights, dbias = [h.T @ dz], dz.sum(axis=0)
        dgammas: list[F32] = []
        dbetas: list[F32] = []
        dh = dz @ self.weights[-1].T
        for i, (h, normalized, inv_std, y, mask) in reversed(list(enumerate(saved))):
            dy = dh * mask * (y > 0)
            dgamma, dbeta = (dy * normalized).sum(axis=0), dy.sum(axis=0)
            dz = self.gammas[i] * inv_std / n * (n * dy - dbeta - normalized * dgamma)
            dweights.insert(0, h.T @ dz)
            dgammas.insert(0, dgamma)
            dbetas.insert(0, dbeta)
            if i > 0:
                dh = dz @ self.weights[i].T
        self.adam_step([*dweights, dbias, *dgammas, *dbetas])
        return float(loss)

    def adam_step(self, grads: list[F32]) -> None:
        """Adam for every array."""
        self.t += 1
        for p, g, m, v in zip(self.params, grads, self.m, self.v, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p -= self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)

    def predict(self, x: F32) -> NDArray[Any]:
        """The likeliest class of every row."""
        for i, w in enumerate(self.weights[:-1]):
            normalized = (x @ w - self.means[i]) / np.sqrt(self.variances[i] + EPS)
            x = np.maximum(self.gammas[i] * normalized + self.betas[i], 0)
        return np.asarray(np.argmax(x @ self.weights[-1] + self.bias, axis=1))


class Training:
    """Trains a network epoch by epoch and keeps its curves; only the steps are timed."""

    def __init__(
        self, network: FastNetwork | PlainNetwork, epochs: int, batch: int, seed: int
    ) -> None:
        self.network, self.epochs, self.batch = network, epochs, batch
        self.shuffle = np.random.default_rng(seed)
        self.seconds = 0.0
        self.losses: list[float] = []

    def rate(self) -> float:
        """The learning rate of the next epoch: it falls along a cosine from 4e-3 to 0."""
        return nf.schedules.Cosine(4e-3, self.epochs)(len(self.losses))

    def epoch(self, x: F32, labels: NDArray[Any]) -> None:
        """One pass over the data in random order."""
        order = self.shuffle.permutation(len(x))
        self.network.lr = self.rate()
        batches = [order[k : k + self.batch] for k in range(0, len(x) - 1, self.batch)]
        begin = perf_counter()
        losses = [self.network.train_step(x[rows], labels[rows]) for rows in batches]
        self.seconds += perf_counter() - begin
        self.losses.append(float(np.mean(losses)))

    def accuracy(self, x: F32, labels: NDArray[Any]) -> float:
        """The share of rows whose class is predicted."""
        return float(np.mean(self.network.predict(x) == labels))


def digits(seed: int) -> tuple[F32, F32, NDArray[Any], NDArray[Any]]:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, a stratified fifth held out; standardised."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, labels = load_digits(return_X_y=True)
    parts = train_test_split(x, labels, test_size=0.2, stratify=labels, random_state=seed)
    train, test, train_labels, test_labels = parts
    mean, std = train.mean(axis=0), train.std(axis=0)
    std[std == 0] = 1
    scaled = [((part - mean) / std).astype(np.float32) for part in (train, test)]
    return scaled[0], scaled[1], train_labels, test_labels


def save_picture(path: str, trainings: dict[str, Training], tests: dict[str, list[float]]) -> None:
    """Loss and held-out accuracy over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = dict(zip(trainings, ("-", "--"), strict=True))
    for name, training in trainings.items():
        label = f"{name}: {training.seconds:.2f} s"
        left.plot(range(1, training.epochs + 1), training.losses, styles[name], label=label)
        right.plot(range(1, training.epochs + 1), tests[name], styles[name], label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log", title="64-128-64-10 on digits")
    right.set(
        xlabel="epoch", ylabel="held-out accuracy", title="1,437 images to train, 360 to test"
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def run(epochs: int = 40, seed: int = 0, picture: str = "nnfast-demo.png") -> dict[str, Training]:
    """Train both networks, print times and accuracies side by side, save the picture."""
    from tqdm import tqdm

    x, x_test, labels, labels_test = digits(seed)
    sizes = [64, 128, 64, 10]
    trainings = {
        "nnfast": Training(FastNetwork(sizes, 0.2, seed), epochs, 32, seed),
        "NumPy": Training(PlainNetwork(sizes, 0.2, seed), epochs, 32, seed),
    }
    tests: dict[str, list[float]] = {name: [] for name in trainings}
    bar = tqdm(range(epochs), unit="epoch", desc="digits, 64-128-64-10")
    with nf.share_blas_threads() as sharing:
        why_not = sharing.reason
        for _ in bar:
            for name, training in trainings.items():
                training.epoch(x, labels)
                tests[name].append(training.accuracy(x_test, labels_test))
            fast = trainings["nnfast"]
            bar.set_postfix(
                loss=f"{fast.losses[-1]:.4f}",
                train=f"{fast.accuracy(x, labels):.1%}",
                test=f"{tests['nnfast'][-1]:.1%}",
            )
    save_picture(picture, trainings, tests)

    print(f"\n{'':10}{'training':>12}{'loss':>10}{'train':>9}{'held out':>10}")
    for name, training in trainings.items():
        print(
            f"{name:10}{training.seconds:10.2f} s{training.losses[-1]:10.4f}"
            f"{training.accuracy(x, labels):9.1%}{tests[name][-1]:10.1%}"
        )
    threads = f"have threads of their own: {why_not}" if why_not else "run on nnfast's threads"
    print(f"The matrix products of both {threads}.")
    ratio = trainings["NumPy"].seconds / trainings["nnfast"].seconds
    print(f"nnfast is {ratio:.2f} times as fast as plain NumPy here. Curves: {picture}")
    return trainings
