"""Digits by layers in a dict, over nnfast: the style of "Deep Learning from Scratch".

Every layer is an object with forward and backward, the network runs through a dict of them in order, gradients are a
dict with the names of the parameters, and an optimizer updates the one by the other.
"""

from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

DROPOUT = 0.3


class Affine:
    def __init__(self, w, b=None):
        self.w, self.b = w, b

    def forward(self, x):
        self.x = x
        y = x @ self.w
        if self.b is not None:
            y += self.b
        return y

    def backward(self, dy):
        self.grads = {"W": self.x.T @ dy}
        if self.b is not None:
            self.grads["b"] = dy.sum(axis=0)
        return dy @ self.w.T


class BiasReluDropout:
    def __init__(self, b, rng, keep):
        self.b, self.rng, self.keep = b, rng, keep

    def forward(self, x):
        mask = self.keep(x.shape) if self.keep else None
        y, self.mask = nf.bias_relu_dropout(x, self.b, DROPOUT, rng=self.rng, mask=mask, out=x)
        return y

    def backward(self, dy):
        dx, db = nf.bias_relu_dropout_backward(dy, self.mask, DROPOUT, out=dy)
        self.grads = {"b": db}
        return dx


class Network:
    def __init__(self, sizes, dtype, keep):
        rng, self.params, self.layers = np.random.default_rng(0), {}, {}
        for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
            w = rng.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(dtype)
            b = np.zeros(n_out, dtype)
            self.params |= {f"W{i}": w, f"b{i}": b}
            if i < len(sizes) - 1:
                self.layers[f"Affine{i}"] = Affine(w)
                self.layers[f"BiasReluDropout{i}"] = BiasReluDropout(b, rng, keep)
            else:
                self.layers[f"Affine{i}"] = Affine(w, b)

    def gradient(self, x, labels):
        for layer in self.layers.values():
            x = layer.forward(x)
        loss, dy = nf.softmax_cross_entropy(x, labels, out=x)
        grads = {}
        for name, layer in reversed(self.layers.items()):
            dy = layer.backward(dy)
            grads |= {key + name[-1]: grad for key, grad in layer.grads.items()}
        return loss, grads


def main(dtype=np.float32, steps=200, hidden=(300, 200), batch=100, keep=None):
    """The loss of every step; keep(shape), if given, says which elements dropout keeps."""
    images, labels = load_digits(return_X_y=True)
    images, losses = (images / 16).astype(dtype), []
    net = Network((64, *hidden, 10), dtype, keep)
    optimizer = nf.optim.Adagrad(net.params, lr=0.01, eps=1e-7)
    for step in range(steps):
        rows = slice(start := step * batch % (len(images) - batch), start + batch)
        loss, grads = net.gradient(images[rows], labels[rows])
        optimizer.step(grads, params=net.params)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 3))
