"""An autoencoder whose layers update their own weights, over nnfast: the style of ML-From-Scratch.

An optimizer is an object with ``update(w, dw)``, which returns the new weights; every parameter has a copy of it and is
rebound in the backward pass. The layers: (dense, batch norm, elu) x 2, dense; the loss is the mean squared error.
"""

from copy import copy

import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf


class RMSprop:
    def __init__(self, lr, rho=0.9):
        self.settings, self.state = {"lr": lr, "alpha": rho, "eps": 1e-7}, None

    def update(self, w, dw):
        w, self.state = nf.optim.rmsprop(w, dw, self.state, **self.settings)
        return w


class Dense:
    def __init__(self, w, optimizer):
        self.w, self.w_opt = w, copy(optimizer)

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, dy):
        dx = dy @ self.w.T
        self.w = self.w_opt.update(self.w, self.x.T @ dy)
        return dx


class BatchNorm:
    def __init__(self, n, optimizer, dtype):
        self.gamma, self.beta = np.ones(n, dtype), np.zeros(n, dtype)
        self.gamma_opt, self.beta_opt = copy(optimizer), copy(optimizer)
        self.running = np.zeros(n, dtype), np.ones(n, dtype)

    def forward(self, x):
        self.x = x
        y, self.saved = nf.batch_norm(
            x, self.gamma, self.beta, *self.running, training=True, convention="keras"
        )
        return y

    def backward(self, dy):
        dx, dgamma, dbeta = nf.batch_norm_backward(
            dy, self.x, self.gamma, self.saved, out=(dy, None, None)
        )
        self.gamma = self.gamma_opt.update(self.gamma, dgamma)
        self.beta = self.beta_opt.update(self.beta, dbeta)
        return dx


class Elu:
    def forward(self, x):
        self.y = nf.elu(x, out=x)
        return self.y

    def backward(self, dy):
        return nf.elu_backward(dy, y=self.y, out=dy)


def main(dtype=np.float32, steps=200, hidden=(300, 100), batch=100):
    """The loss of every step."""
    images = load_digits().data / 16
    images = np.random.default_rng(1).permutation(images - images.mean(axis=0)).astype(dtype)
    rng, optimizer, layers, n = np.random.default_rng(0), RMSprop(lr=1e-3), [], 64
    for width in hidden:
        w = rng.normal(0, (1 / n) ** 0.5, (n, width)).astype(dtype)
        layers += [Dense(w, optimizer), BatchNorm(width, optimizer, dtype), Elu()]
        n = width
    layers.append(Dense(rng.normal(0, (1 / n) ** 0.5, (n, 64)).astype(dtype), optimizer))
    losses = []
    for step in range(steps):
        start = step * batch % (len(images) - batch)
        x = target = images[start : start + batch]
        for layer in layers:
            x = layer.forward(x)
        loss, dy = nf.mse_loss(x, target, out=x)
        for layer in reversed(layers):
            dy = layer.backward(dy)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 4))
