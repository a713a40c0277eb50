"""
The running average of the parameters
=====================================

At a constant rate the parameters keep jumping about; their running average is calmer and tests better. ``applied``
tries it out in place, and takes it back.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

x, labels = load_digits(return_X_y=True)
x = ((x - x.mean()) / x.std()).astype(np.float32)
x, x_test, labels, labels_test = x[:900], x[900:], labels[:900], labels[900:]

rng = np.random.default_rng(0)
net = nf.nn.Sequential(
    nf.nn.Dense(64, 64, rng=rng),
    nf.nn.ReLU(),
    nf.nn.Dropout(0.3, rng=rng),
    nf.nn.Dense(64, 10, rng=rng),
)
opt = nf.optim.SGD(net.params, lr=0.1)
ema = nf.averaging.EMA(net.params, decay=0.99)


def error():
    return 100 * np.mean(net.forward(x_test).argmax(axis=1) != labels_test)


last, average = [], []
for _ in range(30):
    for xb, yb in nf.batches(x, labels, batch_size=16, rng=rng):
        loss, dz = nf.softmax_cross_entropy(net.forward(xb, training=True), yb)
        net.backward(dz)
        opt.step(net.grads)
        ema.update(net.params)
    last.append(error())
    with ema.applied(net.params):
        average.append(error())

_, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(last, label="last iterate")
ax.plot(average, label="running average")
ax.set(xlabel="epoch", ylabel="wrong test images, %", ylim=(2, 12))
ax.legend()
plt.show()
