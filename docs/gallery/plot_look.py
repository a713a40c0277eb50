"""
A look into a network
=====================

``look`` shows activations and gradients of every layer, once, without changing the network. Here ten layers begin
with weights that are too small: from layer to layer the activations shrink, and so do the gradients on their way
back. With He's weights they keep their spread.
"""

import io

import numpy as np

import nnfast as nf

rng = np.random.default_rng(0)
x, labels = rng.standard_normal((200, 64)).astype(np.float32), rng.integers(0, 10, 200)


def network(init):
    sizes = [64] * 6
    hidden = [
        layer for n in sizes for layer in (nf.nn.Dense(n, n, init=init, rng=rng), nf.nn.ReLU())
    ]
    return nf.nn.Sequential(*hidden, nf.nn.Dense(64, 10, rng=rng))


def small(shape, *, dtype, rng):
    return nf.init.normal(shape, std=0.05, dtype=dtype, rng=rng)


for name, init in {"small": small, "he": "he"}.items():
    seen = nf.monitor.look(network(init), x, labels)
    spread = [
        f"{layer.activation.std:.1e}" for layer in seen.layers if layer.layer.startswith("ReLU")
    ]
    print(f"{name:6}", *spread)

# %%
# The histograms of the one with weights that are too small, a row a layer: activations on the left, gradients on the
# right.

rec = nf.monitor.Recorder(network(small))
rec.look(x, labels)
picture = io.BytesIO()
rec.save_histograms(picture)  # or rec.save_histograms("layers.png")
