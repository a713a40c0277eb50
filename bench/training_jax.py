"""The network of the training comparison in JAX: a whole step under one jit, which gets the memory of its state."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nnfast.demo.digits import EPS, MOMENTUM

Array = NDArray[Any]
Tree = dict[str, Any]


class JaxNetwork:
    """Dense layers and ReLU, with BatchNorm and dropout between them or without."""

    def __init__(self, weights: list[Array], batch_norm: bool, dropout: float, seed: int) -> None:
        widths = [w.shape[1] for w in weights]
        hidden = widths[:-1] if batch_norm else []
        # A hidden layer has no bias before BatchNorm.
        biases = widths[-1:] if batch_norm else widths
        params = {
            "weights": [jnp.array(w) for w in weights],
            "biases": [jnp.zeros(n, jnp.float32) for n in biases],
            "gammas": [jnp.ones(n, jnp.float32) for n in hidden],
            "betas": [jnp.zeros(n, jnp.float32) for n in hidden],
        }
        self.state: Tree = {
            "params": params,
            "running": [[jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)] for n in hidden],
            "m": jax.tree.map(jnp.zeros_like, params),
            "v": jax.tree.map(jnp.zeros_like, params),
            "key": jax.random.key(seed),
        }
        self.t, self.lr = 0, 1e-3
        self._step = jax.jit(partial(step, dropout), donate_argnums=0)
        self._logits = jax.jit(lambda params, running, x: forward(params, running, x)[0])

    def train_step(self, x: Array, labels: Array) -> float:
        """One forward pass, backward pass and update; the loss."""
        self.t += 1
        corrections = (1 - 0.9**self.t), math.sqrt(1 - 0.999**self.t)
        numbers = np.array([self.lr / corrections[0], corrections[1]], np.float32)
        self.state, loss = self._step(self.state, x, labels, numbers)
        return float(loss)

    def predict(self, x: Array) -> Array:
        """The likeliest class of every row."""
        logits = self._logits(self.state["params"], self.state["running"], x)
        return np.asarray(logits.argmax(axis=1))


def forward(
    params: Tree, running: Any, x: Any, keys: Any = None, dropout: float = 0.0
) -> tuple[Any, Any]:
    """Logits, and the running statistics after it; a key for each hidden layer in training."""
    *hidden, last = params["weights"]
    moved = []
    for i, w in enumerate(hidden):
        x = x @ w
        if not running:
            x = jax.nn.relu(x + params["biases"][i])
            continue
        mean, var = running[i]
        if keys is not None:
            n, old = len(x), (mean, var)
            mean, var = x.mean(axis=0), x.var(axis=0)
            new = mean, var * (n / (n - 1))
            moved.append([a + MOMENTUM * (b - a) for a, b in zip(old, new, strict=True)])
        scale = params["gammas"][i] * jax.lax.rsqrt(var + EPS)
        x = jax.nn.relu((x - mean) * scale + params["betas"][i])
        if keys is not None and dropout:
            kept = jax.random.bernoulli(keys[i], 1 - dropout, x.shape)
            x = jnp.where(kept, x / (1 - dropout), 0)
    return x @ last + params["biases"][-1], moved


def step(dropout: float, state: Tree, x: Any, labels: Any, numbers: Any) -> tuple[Tree, Any]:
    """The state after a step of Adam, and the loss; numbers: lr and sqrt of v, corrected for the bias."""
    key, *keys = jax.random.split(state["key"], len(state["params"]["weights"]))

    def loss_of(params: Tree) -> tuple[Any, Any]:
        z, running = forward(params, state["running"], x, keys, dropout)
        right = jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1)
        return -right.mean(), running

    (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(state["params"])
    m = jax.tree.map(lambda m, g: m + 0.1 * (g - m), state["m"], grads)
    v = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), state["v"], grads)
    lr, root = numbers
    params = jax.tree.map(
        lambda p, m, v: p - lr * m / (jnp.sqrt(v) / root + 1e-8), state["params"], m, v
    )
    return {"params": params, "running": running, "m": m, "v": v, "key": key}, loss
