"""JAX: compiled functions, results written into donated buffers."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bench import optim, optim_whole
from bench.case import Arrays, Forms
from tests.reference.normalization import EPS, per_channel

try:
    import optax
except ImportError:
    optax = None

jax.config.update("jax_enable_x64", True)

NAME, VERSION = "JAX", jax.__version__
Values = dict[str, float]


def set_threads(n: int) -> bool:
    """XLA's pool is made once, as large as the machine."""
    return n == os.cpu_count()


def compiled(function: Callable[..., Any]) -> Callable[[Arrays, Values], Forms]:
    """function(values, **arrays) with its result in the memory of the last one, which is donated."""

    def make(arrays: Arrays, values: Values) -> Forms:
        inputs = {name: jnp.asarray(array) for name, array in arrays.items()}

        def into(donated: Any, inputs: dict[str, Any]) -> Any:
            return function(values, **inputs)

        call = jax.jit(into, donate_argnums=0, keep_unused=True)
        last = [jax.block_until_ready(jax.jit(lambda inputs: function(values, **inputs))(inputs))]

        def step() -> Any:
            last[0] = jax.block_until_ready(call(last[0], inputs))
            return last[0]

        return {"donated": step}

    return make


def updating(function: Callable[..., Any]) -> Callable[[Arrays, Values], Forms]:
    """A step that donates the parameter and its state."""

    def make(arrays: Arrays, values: Values) -> Forms:
        state = {name: jnp.array(array) for name, array in arrays.items() if name != "grad"}
        grad = jnp.asarray(arrays["grad"])
        call = jax.jit(lambda state, grad: function(grad, **state), donate_argnums=0)
        held = [state]

        def step() -> Any:
            held[0] = jax.block_until_ready(call(held[0], grad))
            return held[0]["param"]

        return {"donated": step}

    return make


def lookahead(arrays: Arrays, values: Values) -> Forms:
    """Steps of optax's Lookahead, which donate the pair of parameters and the state."""
    fast, grad = (jnp.array(arrays[key]) for key in ("param", "grad"))
    rule = optax.lookahead(optax.sgd(values["lr"]), optim_whole.PERIOD, optim_whole.SHARE)
    params: Any = optax.LookaheadParams.init_synced(fast)

    def several(params: Any, state: Any) -> Any:
        for _ in range(optim_whole.PERIOD):
            updates, state = rule.update(grad, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    call = jax.jit(several, donate_argnums=(0, 1))
    held = [(params, rule.init(params))]

    def step() -> Any:
        held[0] = jax.block_until_ready(call(*held[0]))
        return held[0][0].fast

    return {"donated": step}


def maxout(values: Values, x: Any) -> Any:
    groups = x.reshape(len(x), -1, int(values["pieces"]))
    return groups.max(axis=-1), groups.argmax(axis=-1).astype(jnp.uint8)


def maxout_backward(values: Values, dy: Any, which: Any) -> Any:
    pieces = jnp.arange(int(values["pieces"]), dtype=jnp.uint8)
    return jnp.where(which[..., None] == pieces, dy[..., None], 0).reshape(len(dy), -1)


def softmax_cross_entropy(values: Values, z: Any, labels: Any) -> Any:
    def loss(z: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1).mean()

    return jax.value_and_grad(loss)(z)


def batch_norm(values: Values, x: Any, gamma: Any, beta: Any, **running: Any) -> Any:
    axes, shape = per_channel(x)
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    moved = running["running_mean"] * 0.9 + mean * 0.1, running["running_var"] * 0.9 + var * 0.1
    scale = gamma * jax.lax.rsqrt(var + EPS)
    y = (x - mean.reshape(shape)) * scale.reshape(shape) + beta.reshape(shape)
    return y, *moved


def inference(values: Values, x: Any, gamma: Any, beta: Any, **running: Any) -> Any:
    scale = gamma * jax.lax.rsqrt(running["running_var"] + EPS)
    return (x - running["running_mean"]) * scale + beta


def batch_norm_backward(values: Values, dy: Any, x: Any, gamma: Any) -> Any:
    axes, shape = per_channel(x)
    n, mean = x.size // x.shape[1], x.mean(axis=axes)
    inv_std = jax.lax.rsqrt(x.var(axis=axes) + EPS)
    normalized = (x - mean.reshape(shape)) * inv_std.reshape(shape)
    dgamma, dbeta = (dy * normalized).sum(axis=axes), dy.sum(axis=axes)
    inner = n * dy - dbeta.reshape(shape) - normalized * dgamma.reshape(shape)
    return (gamma * inv_std / n).reshape(shape) * inner, dgamma, dbeta


def layer_norm(values: Values, x: Any, gamma: Any, beta: Any) -> Any:
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + EPS) * gamma + beta


def rms_norm(values: Values, x: Any, gamma: Any) -> Any:
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + EPS) * gamma


def gradients(function: Callable[..., Any], parameters: tuple[str, ...]) -> Any:
    """The gradients of function(values, x, parameters...) with respect to x and the parameters."""

    def backward(values: Values, dy: Any, x: Any, gamma: Any) -> Any:
        given = {"gamma": gamma, "beta": jnp.zeros_like(gamma)}
        arguments = [x, *(given[name] for name in parameters)]
        _, pull = jax.vjp(lambda *arguments: function(values, *arguments), *arguments)
        return pull(dy)

    return backward


def dropout(arrays: Arrays, values: Values) -> Forms:
    x, p = jnp.asarray(arrays["x"]), values["p"]
    key = jax.random.key(0)

    def function(donated: Any, x: Any, step: Any) -> Any:
        kept = jax.random.bernoulli(jax.random.fold_in(key, step), 1 - p, x.shape)
        return jnp.where(kept, x / (1 - p), 0), kept

    call = jax.jit(function, donate_argnums=0, keep_unused=True)
    held = [(jnp.zeros_like(x), jnp.zeros(x.shape, bool)), 0]

    def step() -> Any:
        held[0] = jax.block_until_ready(call(held[0], x, held[1]))
        held[1] += 1
        return held[0]

    return {"donated": step}


def dropout_backward(values: Values, dy: Any, mask: Any) -> Any:
    kept = jnp.unpackbits(mask, count=dy.size, bitorder="little")
    return jnp.where(kept, dy / (1 - values["p"]), 0)


def sgd(grad: Any, param: Any, v: Any) -> Any:
    v = optim.MOMENTUM * v + grad
    return {"param": param - optim.LR * v, "v": v}


def adam(grad: Any, param: Any, m: Any, v: Any) -> Any:
    b1, b2 = optim.BETAS
    m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad * grad
    step = optim.LR * (m / (1 - b1)) / (jnp.sqrt(v / (1 - b2)) + optim.EPS)
    return {"param": param - step, "m": m, "v": v}


def gradient(function: Callable[[Any], Any]) -> Callable[[Arrays, Values], Forms]:
    """By x, as JAX derives it."""
    return compiled(lambda values, dy, x: jax.vjp(function, x)[1](dy)[0])


BY_X = {
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "logsigmoid": jax.nn.log_sigmoid,
    "softplus": jax.nn.softplus,
    "tanhshrink": lambda x: x - jnp.tanh(x),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "softsign": jax.nn.soft_sign,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}
OTHERS = {
    "relu6": jax.nn.relu6,
    "hardtanh": jax.nn.hard_tanh,
    "celu": jax.nn.celu,
    "selu": jax.nn.selu,
}


def halves(x: Any) -> tuple[Any, Any]:
    return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


def gated(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """a act(b)"""
    return lambda x: halves(x)[0] * act(halves(x)[1])


def summed(dx: Any) -> tuple[Any, Any]:
    """And the gradient with respect to the bias."""
    return dx, dx.sum(axis=0)


GATES = {
    "glu": gated(jax.nn.sigmoid),
    "geglu": gated(BY_X["gelu"]),
    "swiglu": gated(jax.nn.silu),
}
BIASED = {"relu": jax.nn.relu, "gelu": BY_X["gelu"], "silu": jax.nn.silu, "tanh": jnp.tanh}

OPERATIONS = {
    **{name: compiled(lambda values, x, f=gate: f(x)) for name, gate in GATES.items()},
    **{f"{name}_backward": gradient(gate) for name, gate in GATES.items()},
    **{
        f"bias_{name}": compiled(lambda values, x, bias, f=act: f(x + bias))
        for name, act in BIASED.items()
    },
    **{
        f"bias_{name}_backward": compiled(
            lambda values, dy, x, bias, f=BIASED[name]: summed(jax.vjp(f, x + bias)[1](dy)[0])
        )
        for name in ("gelu", "silu")
    },
    "bias_relu_backward": compiled(lambda values, dy, y: summed(jnp.where(y > 0, dy, 0))),
    "bias_tanh_backward": compiled(lambda values, dy, y: summed(dy * (1 - y * y))),
    **{name: compiled(lambda values, x, f=f: f(x)) for name, f in (BY_X | OTHERS).items()},
    **{f"{name}_backward": gradient(f) for name, f in BY_X.items()},
    "relu": compiled(lambda values, x: jnp.maximum(x, 0)),
    "relu_backward": compiled(lambda values, dy, y: jnp.where(y > 0, dy, 0)),
    "threshold": compiled(lambda values, x: jnp.where(x > 0, x, 0)),
    "threshold_backward": compiled(lambda values, dy, x: jnp.where(x > 0, dy, 0)),
    "hardshrink": compiled(lambda values, x: jnp.where(jnp.abs(x) > values["lambd"], x, 0)),
    "hardshrink_backward": compiled(
        lambda values, dy, y: jnp.where(jnp.abs(y) > values["lambd"], dy, 0)
    ),
    "softshrink": compiled(
        lambda values, x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - values["lambd"], 0)
    ),
    "softshrink_backward": compiled(lambda values, dy, y: jnp.where(y != 0, dy, 0)),
    "relu_squared": compiled(lambda values, x: jnp.square(jax.nn.relu(x))),
    "relu_squared_backward": compiled(lambda values, dy, x: 2 * dy * jax.nn.relu(x)),
    "squareplus": compiled(lambda values, x: jax.nn.squareplus(x, values["b"])),
    "squareplus_backward": compiled(lambda values, dy, y: dy * (y * y / (y * y + values["b"] / 4))),
    "leaky_relu": compiled(lambda values, x: jax.nn.leaky_relu(x, values["negative_slope"])),
    "leaky_relu_backward": compiled(
        lambda values, dy, y: jnp.where(y > 0, dy, values["negative_slope"] * dy)
    ),
    "prelu": compiled(lambda values, x, weight: jnp.where(x > 0, x, weight * x)),
    "prelu_backward": compiled(lambda values, dy, x, weight: jnp.where(x > 0, dy, weight * dy)),
    "prelu_weight_backward": compiled(
        lambda values, dy, x, weight: (dy * jnp.minimum(x, 0)).sum(axis=0)
    ),
    "elu": compiled(lambda values, x: jax.nn.elu(x, values["alpha"])),
    "elu_backward": compiled(
        lambda values, dy, y: jnp.where(y > 0, dy, dy * (y + values["alpha"]))
    ),
    "sigmoid": compiled(lambda values, x: jax.nn.sigmoid(x)),
    "sigmoid_backward": compiled(lambda values, dy, y: dy * y * (1 - y)),
    "tanh": compiled(lambda values, x: jnp.tanh(x)),
    "tanh_backward": compiled(lambda values, dy, y: dy * (1 - y * y)),
    "maxout": compiled(maxout),
    "maxout_backward": compiled(maxout_backward),
    "softmax": compiled(lambda values, x: jax.nn.softmax(x)),
    "log_softmax": compiled(lambda values, x: jax.nn.log_softmax(x)),
    "log_softmax_backward": compiled(
        lambda values, dy, y: dy - jnp.exp(y) * dy.sum(axis=-1, keepdims=True)
    ),
    "logsumexp": compiled(lambda values, x: jax.nn.logsumexp(x, axis=-1)),
    "logsumexp_backward": compiled(lambda values, dy, x: dy[:, None] * jax.nn.softmax(x)),
    "softmax_backward": compiled(
        lambda values, dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    ),
    "softmax_cross_entropy": compiled(softmax_cross_entropy),
    "batch_norm": compiled(batch_norm),
    "batch_norm images": compiled(batch_norm),
    "batch_norm_backward images": compiled(batch_norm_backward),
    "layer_norm": compiled(layer_norm),
    "layer_norm_backward": compiled(gradients(layer_norm, ("gamma", "beta"))),
    "rms_norm": compiled(rms_norm),
    "rms_norm_backward": compiled(gradients(rms_norm, ("gamma",))),
    "batch_norm inference": compiled(inference),
    "batch_norm_backward": compiled(batch_norm_backward),
    "dropout": dropout,
    "dropout_backward": compiled(dropout_backward),
    "SGD": updating(sgd),
    "Adam": updating(adam),
}
if optax is not None:
    OPERATIONS["Lookahead"] = lookahead
