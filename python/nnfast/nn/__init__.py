"""Networks: layers with explicit ``forward`` and ``backward``, put together by ``Sequential``.

Layers and optimizers are all of nnfast that keeps state. ``forward(x, training=True)`` keeps what ``backward(dy)``
needs, which returns the gradient with respect to x (a Sequential's only if asked to) and writes those with respect to
the parameters. ``params`` and ``grads`` are lists in the same order, as an optimizer takes them, and the arrays in them
stay the same; every backward writes the gradients anew.

In training all arrays lie in memory that the next step uses again, for smaller batches too: what forward or backward
returns is overwritten by the next such call. A loss may put its gradient into the output's memory (``out=``) if the
last layer does not need that for backward: Dense does not. ``forward(x)`` alone is inference: it keeps nothing, draws
no random number and returns a new array.

Parameters are float32 or float64; inputs are converted to their dtype. ``Sequential(..., dtype=np.float64)`` gives it
once for all layers. ``Sequential(..., output=Softmax())`` trains on logits, and its ``predict`` gives probabilities.
Errors name the argument and change nothing.

Networks, optimizers and averages may be copied, pickled, and dumped by joblib: arrays that are one stay one, so that
``net, opt = joblib.load(path)`` train on with the same bits where opt was given ``net.params`` and both were dumped
together. Of bare arrays joblib makes several, ``joblib.dump((arrays, opt), path)``: for these there are save and
load_state_dict. Arrays that arrive read-only, as in the workers of ``n_jobs=2``, are copied. ``net.save(path)`` and
``opt.save(path)`` need no pickle, and hold all that a run goes on from but the Generators that you gave to layers.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> net = nf.nn.Sequential(nf.nn.Dense(64, 32, rng=0), nf.nn.ReLU(), nf.nn.Dense(32, 10, rng=1))
>>> x, labels = np.random.default_rng(0).random((16, 64), np.float32), np.arange(16) % 10
>>> opt = nf.optim.Adam(net.params)
>>> z = net.forward(x, training=True)
>>> loss, dz = nf.softmax_cross_entropy(z, labels, out=z)
>>> net.backward(dz)
>>> opt.step(net.grads)
>>> nf.softmax_cross_entropy(net.forward(x), labels)[0] < loss
True
"""

# ruff: noqa: F403
from nnfast import _docs
from nnfast.nn import activations
from nnfast.nn.activations import *
from nnfast.nn.convolution import Conv1d, Conv2d
from nnfast.nn.dense import Dense, DropConnect
from nnfast.nn.embedding import Embedding
from nnfast.nn.layer import Layer
from nnfast.nn.norms import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from nnfast.nn.pooling import (
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from nnfast.nn.regular import BatchNorm, Dropout, Flatten, StochasticDepth
from nnfast.nn.sequential import Sequential

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Dense",
    "DropConnect",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "MaxPool1d",
    "MaxPool2d",
    "RMSNorm",
    "Sequential",
    "StochasticDepth",
]
__all__ += activations.__all__

_docs.finish(
    __name__,
    {
        "kernel_size": "Elements of a window.",
        "stride": "Elements from one window to the next; that of kernel_size by default.",
        "padding": "Elements around x.",
        "dilation": "Elements from one of a window to the next.",
        "ceil_mode": "Whether there are windows that reach past the padding.",
        "eps": "Added to the variance, inside the root.",
        "p": "Probability of dropping an element.",
    },
)
