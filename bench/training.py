"""The same network in nnfast and in plain NumPy: the demo's two classes, an epoch each in turn."""

import numpy as np

from nnfast.demo import FastNetwork, PlainNetwork, Training, digits

NETWORKS = {"digits": ([64, 128, 64, 10], 32), "mnist": ([784, 512, 256, 10], 128)}


def mnist_like(seed: int, rows: int = 4000) -> tuple[np.ndarray, ...]:
    """Noise of MNIST's shape: enough to time with, where nothing is learned."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 784), dtype=np.float32)
    labels = rng.integers(0, 10, rows)
    return x, x, labels, labels


def compare(name: str, epochs: int, seed: int = 0) -> dict[str, float]:
    """Median seconds an epoch and the accuracy of both, and their ratio."""
    sizes, batch = NETWORKS[name]
    x, x_test, labels, labels_test = (digits if name == "digits" else mnist_like)(seed)
    trainings = [
        Training(network(sizes, 0.2, seed), epochs, batch, seed)
        for network in (FastNetwork, PlainNetwork)
    ]
    seconds = []
    for _ in range(epochs):
        before = [training.seconds for training in trainings]
        for training in trainings:
            training.epoch(x, labels)
        seconds.append([t.seconds - b for t, b in zip(trainings, before, strict=True)])
    fast, plain = np.median(seconds, axis=0)
    accuracies = [training.accuracy(x_test, labels_test) for training in trainings]
    return {
        "fast": float(fast),
        "plain": float(plain),
        "ratio": float(plain / fast),
        "fast accuracy": accuracies[0],
        "plain accuracy": accuracies[1],
    }


def main() -> None:
    """Print both networks."""
    for name, epochs in (("digits", 40), ("mnist", 10)):
        sizes, batch = NETWORKS[name]
        row = compare(name, epochs)
        print(
            f"{'-'.join(map(str, sizes))}, batch {batch}: nnfast {row['fast'] * 1e3:.1f} ms an epoch,"
            f" plain NumPy {row['plain'] * 1e3:.1f} ms, ratio {row['ratio']:.2f};"
            f" accuracy {row['fast accuracy']:.3f} and {row['plain accuracy']:.3f}",
            flush=True,
        )
