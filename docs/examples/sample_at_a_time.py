"""Digits by a network that sees a sample at a time, in NumPy: the style of "Neural Networks and Deep Learning".

Lists of weights and biases, a sigmoid after every layer, the cross-entropy of each output, backpropagation of one
sample, and a step of gradient descent with weight decay after ten of them.
"""

import numpy as np
from sklearn.datasets import load_digits

ETA, DECAY, BATCH, TINY = 0.5, 1e-4, 10, 1e-37


def sigmoid(z):
    """In place."""
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    return np.reciprocal(z, out=z)


def cross_entropy(a, y, out):
    """The loss of ten sigmoids a; out takes its gradient with respect to what they were given."""
    np.subtract(a, y, out=out)
    right = np.abs(out)
    np.subtract(1, right, out=right)  # a where y is 1, 1 - a where it is 0
    np.maximum(right, TINY, out=right)
    np.log(right, out=right)
    return -right.sum()


class Network:
    def __init__(self, sizes, dtype):
        rng = np.random.default_rng(0)
        shapes = list(zip(sizes[1:], sizes[:-1]))
        self.weights = [rng.normal(0, s[1] ** -0.5, s).astype(dtype) for s in shapes]
        self.biases = [np.zeros(n, dtype) for n in sizes[1:]]

    def backprop(self, y, activations, deltas):
        """The loss of a sample, activations[0]; the other arrays, one for each layer, are filled in."""
        for w, b, x, a in zip(self.weights, self.biases, activations, activations[1:]):
            np.matmul(w, x, out=a)
            a += b
            sigmoid(a)
        loss = cross_entropy(a, y, out=deltas[-1])
        for i in reversed(range(1, len(deltas))):
            a = activations[i]
            slope = 1 - a
            slope *= a
            np.multiply(self.weights[i].T @ deltas[i], slope, out=deltas[i - 1])
        return loss

    def update_mini_batch(self, xs, ys):
        """A step down the mean gradient of some samples; their mean loss."""
        activations = [xs] + [np.empty((len(xs), len(b)), b.dtype) for b in self.biases]
        deltas = [np.empty_like(a) for a in activations[1:]]
        loss = sum(map(self.backprop, ys, zip(*activations), zip(*deltas)))
        for w, b, x, delta in zip(self.weights, self.biases, activations, deltas):
            gradient = delta.T @ x
            gradient *= ETA / len(xs)
            w *= 1 - ETA * DECAY
            w -= gradient
            b -= ETA / len(xs) * delta.sum(axis=0)
        return float(loss) / len(xs)


def main(dtype=np.float32, steps=300, hidden=256):
    """The loss of every step."""
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(dtype), np.eye(10, dtype=dtype)[labels]
    net = Network((64, hidden, 10), dtype)
    batches = np.random.default_rng(1).integers(0, len(x), (steps, BATCH))
    return [net.update_mini_batch(x[rows], y[rows]) for rows in batches]


if __name__ == "__main__":
    print("loss of each 100 steps:", np.mean(np.split(np.array(main(float)), 3), axis=1).round(3))
