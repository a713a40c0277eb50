"""
BatchNorm and bad first weights
===============================

Two of the networks of the course's claim about batch normalization (:doc:`/course`), in small: ten layers whose
weights begin a hundred times too small. Without BatchNorm the loss stays that of guessing, ln 10; with it the
network trains.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

x, labels = load_digits(return_X_y=True)
x = ((x - x.mean()) / x.std()).astype(np.float32)


def weights(shape, *, dtype, rng):
    return nf.init.normal(shape, std=0.01, dtype=dtype, rng=rng)


def losses(batch_norm):
    rng, n, layers = np.random.default_rng(0), 64, []
    for _ in range(10):
        layers += [nf.nn.Dense(n, 64, init=weights, rng=rng)]
        layers += [nf.nn.BatchNorm(64)] if batch_norm else []
        layers += [nf.nn.ReLU()]
    net = nf.nn.Sequential(*layers, nf.nn.Dense(64, 10, init=weights, rng=rng))
    opt, found = nf.optim.SGD(net.params, lr=0.1), []
    for _ in range(5):
        for xb, yb in nf.batches(x, labels, batch_size=64, rng=rng, drop_last=True):
            loss, dz = nf.softmax_cross_entropy(net.forward(xb, training=True), yb)
            net.backward(dz)
            opt.step(net.grads)
            found.append(loss)
    return found


_, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(losses(False), label="without")
ax.plot(losses(True), label="with BatchNorm")
ax.axhline(np.log(10), ls="--", color="grey", lw=1, label="ln 10")
ax.set(xlabel="step", ylabel="loss")
ax.legend()
plt.show()
