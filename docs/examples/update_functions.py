"""An autoencoder whose layers update their own weights, in NumPy: the style of ML-From-Scratch.

An optimizer is an object with ``update(w, dw)``, which returns the new weights; every parameter has a copy of it and is
rebound in the backward pass. The layers: (dense, batch norm, elu) x 2, dense; the loss is the mean squared error.
"""

from copy import copy

import numpy as np
from sklearn.datasets import load_digits


class RMSprop:
    def __init__(self, lr, rho=0.9):
        self.lr, self.rho, self.average = lr, rho, None

    def update(self, w, dw):
        step = np.square(dw)
        step *= 1 - self.rho
        if self.average is None:
            self.average = np.zeros_like(w)
        self.average *= self.rho
        self.average += step
        np.sqrt(self.average, out=step)
        step += 1e-7
        np.divide(dw, step, out=step)
        step *= self.lr
        return np.subtract(w, step, out=step)


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
    def __init__(self, n, optimizer, dtype, momentum=0.99, eps=1e-3):
        self.gamma, self.beta = np.ones(n, dtype), np.zeros(n, dtype)
        self.gamma_opt, self.beta_opt = copy(optimizer), copy(optimizer)
        self.momentum, self.eps = momentum, eps
        self.running = np.zeros(n, dtype), np.ones(n, dtype)

    def forward(self, x):
        mean = x.mean(axis=0)
        self.x = x - mean
        y = np.square(self.x)
        var = y.mean(axis=0)
        for running, new in zip(self.running, (mean, var)):
            running += (1 - self.momentum) * (new - running)
        self.inv_std = 1 / np.sqrt(var + self.eps)
        self.x *= self.inv_std
        np.multiply(self.x, self.gamma, out=y)
        y += self.beta
        return y

    def backward(self, dy):
        dx = dy * self.x
        dgamma, dbeta = dx.sum(axis=0), dy.sum(axis=0)
        np.multiply(self.x, dgamma / -len(dy), out=dx)
        dx += dy
        dx -= dbeta / len(dy)
        dx *= self.gamma * self.inv_std
        self.gamma = self.gamma_opt.update(self.gamma, dgamma)
        self.beta = self.beta_opt.update(self.beta, dbeta)
        return dx


class Elu:
    def forward(self, x):
        self.y = np.minimum(x, 0)
        np.exp(self.y, out=self.y)
        self.y -= 1
        return np.maximum(self.y, x, out=self.y)  # exp(x) - 1 is never below x

    def backward(self, dy):
        slope = np.minimum(self.y, 0)
        slope += 1
        return np.multiply(dy, slope, out=dy)


def mean_squared_error(y, target):
    dy = y - target
    loss = float(np.square(dy).mean())
    dy *= 2 / dy.size
    return loss, dy


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
        loss, dy = mean_squared_error(x, target)
        for layer in reversed(layers):
            dy = layer.backward(dy)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 4))
