"""Watching a training: curves of loss and accuracy, update ratios, statistics by layer, where NaN began.

A Recorder records what your training loop reports. It draws these records, keeps a line in the
terminal up to date, and looks at a network layer by layer without changing it. What a healthy training shows:

- an untrained network of C classes has a loss of log C, and the loss falls, fast at first;
- training and validation accuracy rise together; a growing gap is overfitting, no gap at a low accuracy a small model;
- an update's norm is about 1e-3 of its weight's: much more is a learning rate too high, much less one too low;
- activations and gradients keep their spread from layer to layer, and few units are dead or saturated.

The learning rate itself is a number of the epoch: ``rec.epoch(lr=opt.lr)``.

Examples
--------
>>> import io, numpy as np, nnfast as nf
>>> net = nf.nn.Sequential(nf.nn.Dense(64, 32, rng=0), nf.nn.ReLU(), nf.nn.Dense(32, 10, rng=1))
>>> opt = nf.optim.Adam(net.params, lr=3e-3)
>>> x, labels = np.random.default_rng(0).random((200, 64), np.float32), np.arange(200) % 10
>>> with nf.monitor.Recorder(net, opt) as rec:
...     for epoch in range(20):
...         for rows in np.split(np.arange(200), 4):
...             loss, dz = nf.softmax_cross_entropy(net.forward(x[rows], training=True), labels[rows])
...             net.backward(dz)
...             rec.step(loss, opt.step(net.grads, stats=True))
...         rec.epoch(train_accuracy=(net.forward(x).argmax(axis=1) == labels).mean())
...     seen = rec.look(x, labels)
>>> rec.save_picture(io.BytesIO())  # or "training.png"
>>> rec.losses[-1] < rec.losses[0], [layer.layer for layer in seen.layers if layer.dead > 0.5]
(np.True_, [])
"""

from nnfast import _docs
from nnfast.monitor.arrays import Statistics, statistics
from nnfast.monitor.layers import LayerStatistics, Look, NonFinite, look
from nnfast.monitor.recorder import Recorder

__all__ = [
    "LayerStatistics",
    "Look",
    "NonFinite",
    "Recorder",
    "Statistics",
    "look",
    "statistics",
]

_docs.finish(__name__, {})
