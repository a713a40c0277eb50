"""A small GPT by hand, in NumPy: embeddings, blocks of causal attention and an MLP behind layer norms, AdamW.

It learns to predict the next character of a text. Activations are (batch * time, width); the output layer has the
weights of the embedding; of the linear layers only the first of an MLP has a bias.
"""

from pathlib import Path

import numpy as np

TEXT = Path(__file__).parents[2] / "LICENSE"
LR, DECAY = 2e-3, 0.01
GELU = (2 / np.pi) ** 0.5


def layer_norm(x, gamma, beta, eps=1e-5):
    x = x - x.mean(axis=1, keepdims=True)
    y = np.square(x)
    inv_std = 1 / np.sqrt(y.mean(axis=1, keepdims=True) + eps)
    x *= inv_std
    np.multiply(x, gamma, out=y)
    y += beta
    return y, (x, gamma, inv_std)


def layer_norm_backward(dy, cache):
    x, gamma, inv_std = cache
    dx = dy * x
    dgamma, dbeta = dx.sum(axis=0), dy.sum(axis=0)
    dy *= gamma
    dx *= gamma
    np.multiply(x, dx.mean(axis=1, keepdims=True), out=dx)
    dx += dy.mean(axis=1, keepdims=True)
    np.subtract(dy, dx, out=dx)
    dx *= inv_std
    return dx, dgamma, dbeta


def bias_gelu(x, bias):
    x += bias
    t = np.square(x)
    t *= 0.044715 * GELU
    t += GELU
    t *= x
    np.tanh(t, out=t)
    y = t + 1
    y *= x
    y *= 0.5
    return y, (x, t)


def bias_gelu_backward(dy, cache):
    x, t = cache
    slope = np.square(x)
    slope *= 3 * 0.044715 * GELU
    slope += GELU
    slope *= x
    slope *= 1 - np.square(t)
    slope += t
    slope += 1
    slope *= 0.5
    dy *= slope
    return dy, dy.sum(axis=0)


def heads_of(a, batch, heads, parts):
    """(batch * time, parts * width) as views, one for each part, of shape (batch, heads, time, width / heads)."""
    return a.reshape(batch, -1, parts, heads, a.shape[1] // parts // heads).transpose(2, 0, 3, 1, 4)


def attention(qkv, batch, heads):
    q, k, v = heads_of(qkv, batch, heads, 3)
    p = q @ k.swapaxes(2, 3)
    p *= q.shape[-1] ** -0.5
    np.copyto(p, -np.inf, where=~np.tri(p.shape[-1], dtype=bool))
    p -= p.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    y = np.empty((len(qkv), qkv.shape[1] // 3), qkv.dtype)
    np.matmul(p, v, out=heads_of(y, batch, heads, 1)[0])
    return y, (qkv, p)


def attention_backward(dy, cache):
    qkv, p = cache
    batch, heads = p.shape[:2]
    q, k, v = heads_of(qkv, batch, heads, 3)
    dqkv, (dy,) = np.empty_like(qkv), heads_of(dy, batch, heads, 1)
    dq, dk, dv = heads_of(dqkv, batch, heads, 3)
    np.matmul(p.swapaxes(2, 3), dy, out=dv)
    ds = dy @ v.swapaxes(2, 3)
    t = ds * p
    np.multiply(p, t.sum(axis=-1, keepdims=True), out=ds)
    np.subtract(t, ds, out=ds)
    ds *= q.shape[-1] ** -0.5
    np.matmul(ds, k, out=dq)
    np.matmul(ds.swapaxes(2, 3), q, out=dk)
    return dqkv


def softmax_cross_entropy(scores, targets):
    rows = np.arange(len(scores))
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores, out=scores)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, targets]).mean()
    p[rows, targets] -= 1
    p /= len(p)
    return float(loss), p


def loss_and_grads(p, tokens, targets, blocks, heads):
    """The loss of tokens (batch, time), and the gradients by name."""
    caches, grads = [], {}
    x = p["tokens"][tokens]
    x += p["positions"]
    x = x.reshape(tokens.size, -1)
    for i in range(blocks):
        a, norm1 = layer_norm(x, p[f"gamma1.{i}"], p[f"beta1.{i}"])
        y, att = attention(a @ p[f"qkv.{i}"], len(tokens), heads)
        x += y @ p[f"project.{i}"]
        b, norm2 = layer_norm(x, p[f"gamma2.{i}"], p[f"beta2.{i}"])
        h, gelu = bias_gelu(b @ p[f"up.{i}"], p[f"bias.{i}"])
        x += h @ p[f"down.{i}"]
        caches.append((a, norm1, y, att, b, norm2, h, gelu))
    x, norm = layer_norm(x, p["gamma"], p["beta"])
    loss, ds = softmax_cross_entropy(x @ p["tokens"].T, targets.ravel())
    grads["tokens"] = ds.T @ x
    dx, grads["gamma"], grads["beta"] = layer_norm_backward(ds @ p["tokens"], norm)
    for i in reversed(range(blocks)):
        a, norm1, y, att, b, norm2, h, gelu = caches[i]
        grads[f"down.{i}"] = h.T @ dx
        dh, grads[f"bias.{i}"] = bias_gelu_backward(dx @ p[f"down.{i}"].T, gelu)
        grads[f"up.{i}"] = b.T @ dh
        dy = dh @ p[f"up.{i}"].T
        dy, grads[f"gamma2.{i}"], grads[f"beta2.{i}"] = layer_norm_backward(dy, norm2)
        dx += dy
        grads[f"project.{i}"] = y.T @ dx
        dqkv = attention_backward(dx @ p[f"project.{i}"].T, att)
        grads[f"qkv.{i}"] = a.T @ dqkv
        dy = dqkv @ p[f"qkv.{i}"].T
        dy, grads[f"gamma1.{i}"], grads[f"beta1.{i}"] = layer_norm_backward(dy, norm1)
        dx += dy
    np.add.at(grads["tokens"], tokens.ravel(), dx)
    grads["positions"] = dx.reshape(*tokens.shape, -1).sum(axis=0)
    return loss, grads


def adamw(p, grads, m, v, t, beta1=0.9, beta2=0.99):
    for name, g in grads.items():
        step = (1 - beta1) * g
        m[name] *= beta1
        m[name] += step
        np.square(g, out=step)
        step *= 1 - beta2
        v[name] *= beta2
        v[name] += step
        np.multiply(v[name], 1 / (1 - beta2**t), out=step)
        np.sqrt(step, out=step)
        step += 1e-8
        np.divide(m[name], step, out=step)
        step *= LR / (1 - beta1**t)
        p[name] *= 1 - LR * DECAY
        p[name] -= step


def main(dtype=np.float32, steps=40, blocks=2, width=128, heads=4, batch=16, time=64):
    """The loss of every step."""
    alphabet, text = np.unique(list(TEXT.read_text(encoding="utf-8")), return_inverse=True)
    rng, n, losses = np.random.default_rng(0), width, []
    shapes = {"tokens": (len(alphabet), n), "positions": (time, n)}
    for i in range(blocks):
        shapes |= {f"qkv.{i}": (n, 3 * n), f"project.{i}": (n, n)}
        shapes |= {f"up.{i}": (n, 4 * n), f"down.{i}": (4 * n, n)}
    p = {name: rng.normal(0, 0.05, shape).astype(dtype) for name, shape in shapes.items()}
    for i in ["", *(f"{k}.{i}" for i in range(blocks) for k in (1, 2))]:
        p |= {f"gamma{i}": np.ones(n, dtype), f"beta{i}": np.zeros(n, dtype)}
    p |= {f"bias.{i}": np.zeros(4 * n, dtype) for i in range(blocks)}
    m, v = ({name: np.zeros_like(w) for name, w in p.items()} for _ in range(2))
    for t in range(1, steps + 1):
        tokens = text[rng.integers(0, len(text) - time, (batch, 1)) + np.arange(time + 1)]
        loss, grads = loss_and_grads(p, tokens[:, :-1], tokens[:, 1:], blocks, heads)
        adamw(p, grads, m, v, t)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 10, 20, 30, 40 steps:", np.round(main(np.float64)[9::10], 3))
