"""Digits by layers in a dict, in NumPy: the style of "Deep Learning from Scratch".

Every layer is an object with forward and backward, the network runs through a dict of them in order, gradients are a
dict with the names of the parameters, and an optimizer updates the one by the other.
"""

from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

DROPOUT = 0.3


class Affine:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def forward(self, x):
        self.x = x
        y = x @ self.w
        y += self.b
        return y

    def backward(self, dy):
        self.grads = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        return dy @ self.w.T


class Relu:
    def forward(self, x):
        self.positive, self.grads = x > 0, {}
        return np.maximum(x, 0, out=x)

    def backward(self, dy):
        return np.multiply(dy, self.positive, out=dy)


class Dropout:
    def __init__(self, rng, keep):
        self.rng, self.keep, self.grads = rng, keep, {}

    def forward(self, x):
        draw = self.keep or (lambda shape: self.rng.random(shape, dtype=np.float32) >= DROPOUT)
        self.mask = np.multiply(draw(x.shape), 1 / (1 - DROPOUT), dtype=x.dtype)
        return np.multiply(x, self.mask, out=x)

    def backward(self, dy):
        return np.multiply(dy, self.mask, out=dy)


class SoftmaxWithLoss:
    def forward(self, x, labels):
        self.p, self.at_labels = x, (np.arange(len(x)), labels)
        x -= x.max(axis=1, keepdims=True)
        np.exp(x, out=x)
        x /= x.sum(axis=1, keepdims=True)
        return -float(np.log(x[self.at_labels]).mean())

    def backward(self):
        self.p[self.at_labels] -= 1
        self.p /= len(self.p)
        return self.p


class AdaGrad:
    def __init__(self, params, lr):
        self.h, self.lr = {name: np.zeros_like(w) for name, w in params.items()}, lr

    def update(self, params, grads):
        for name, g in grads.items():
            step = np.square(g)
            self.h[name] += step
            np.sqrt(self.h[name], out=step)
            step += 1e-7
            np.divide(g, step, out=step)
            step *= self.lr
            params[name] -= step


class Network:
    def __init__(self, sizes, dtype, keep):
        rng, self.params, self.layers = np.random.default_rng(0), {}, {}
        for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
            w = rng.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(dtype)
            b = np.zeros(n_out, dtype)
            self.params |= {f"W{i}": w, f"b{i}": b}
            self.layers[f"Affine{i}"] = Affine(w, b)
            if i < len(sizes) - 1:
                self.layers |= {f"Relu{i}": Relu(), f"Dropout{i}": Dropout(rng, keep)}
        self.last = SoftmaxWithLoss()

    def gradient(self, x, labels):
        for layer in self.layers.values():
            x = layer.forward(x)
        loss, grads = self.last.forward(x, labels), {}
        dy = self.last.backward()
        for name, layer in reversed(self.layers.items()):
            dy = layer.backward(dy)
            grads |= {key + name[-1]: grad for key, grad in layer.grads.items()}
        return loss, grads


def main(dtype=np.float32, steps=200, hidden=(300, 200), batch=100, keep=None):
    """The loss of every step; keep(shape), if given, says which elements dropout keeps."""
    images, labels = load_digits(return_X_y=True)
    images, losses = (images / 16).astype(dtype), []
    net = Network((64, *hidden, 10), dtype, keep)
    optimizer = AdaGrad(net.params, lr=0.01)
    for step in range(steps):
        rows = slice(start := step * batch % (len(images) - batch), start + batch)
        loss, grads = net.gradient(images[rows], labels[rows])
        optimizer.update(net.params, grads)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 3))
