"""
Curves of a training
====================

A ``Recorder`` is told what the loop knows, and draws it: the loss of every step, accuracies of every epoch, and the
ratio of updates to weights, which should be about 1e-3.
"""

import io

import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

x, labels = load_digits(return_X_y=True)
x = ((x - x.mean()) / x.std()).astype(np.float32)
x, x_test, labels, labels_test = x[:1400], x[1400:], labels[:1400], labels[1400:]

rng = np.random.default_rng(0)
net = nf.nn.Sequential(
    nf.nn.Dense(64, 128, rng=rng),
    nf.nn.ReLU(),
    nf.nn.Dropout(0.3, rng=rng),
    nf.nn.Dense(128, 10, rng=rng),
)
opt = nf.optim.Adam(net.params, lr=1e-3)


def accuracy(x, labels):
    return np.mean(net.forward(x).argmax(axis=1) == labels)


with nf.monitor.Recorder(net, opt) as rec:
    for _ in range(15):
        for xb, yb in nf.batches(x, labels, batch_size=32, rng=rng):
            loss, dz = nf.softmax_cross_entropy(net.forward(xb, training=True), yb)
            net.backward(dz)
            rec.step(loss, opt.step(net.grads, stats=True))
        rec.epoch(
            train_accuracy=accuracy(x, labels), validation_accuracy=accuracy(x_test, labels_test)
        )

picture = io.BytesIO()
rec.save_picture(picture)  # or rec.save_picture("training.png")
