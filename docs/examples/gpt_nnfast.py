"""A small GPT by hand, over nnfast: embeddings, blocks of causal attention and an MLP behind layer norms, AdamW.

It learns to predict the next character of a text. Activations are (batch * time, width); the output layer has the
weights of the embedding; of the linear layers only the first of an MLP has a bias.
"""

from pathlib import Path

import numpy as np

import nnfast as nf

TEXT = Path(__file__).parents[2] / "LICENSE"
LR, DECAY = 2e-3, 0.01


def layer_norm(x, gamma, beta):
    y, saved = nf.layer_norm(x, gamma, beta)
    return y, (x, gamma, saved)


def layer_norm_backward(dy, cache):
    return nf.layer_norm_backward(dy, *cache, out=(dy, None, None))


def bias_gelu(x, bias):
    return nf.bias_gelu(x, bias, approximate="tanh"), (x, bias)


def bias_gelu_backward(dy, cache):
    return nf.bias_gelu_backward(dy, *cache, approximate="tanh", out=dy)


def heads_of(a, batch, heads, parts):
    """(batch * time, parts * width) as views, one for each part, of shape (batch, heads, time, width / heads)."""
    return a.reshape(batch, -1, parts, heads, a.shape[1] // parts // heads).transpose(2, 0, 3, 1, 4)


def attention(qkv, batch, heads):
    q, k, v = heads_of(qkv, batch, heads, 3)
    p = q @ k.swapaxes(2, 3)
    nf.masked_softmax(p, causal=True, scale=q.shape[-1] ** -0.5, out=p)
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
    nf.masked_softmax_backward(ds, p, scale=q.shape[-1] ** -0.5, out=ds)
    np.matmul(ds, k, out=dq)
    np.matmul(ds.swapaxes(2, 3), q, out=dk)
    return dqkv


def loss_and_grads(p, tokens, targets, blocks, heads):
    """The loss of tokens (batch, time), and the gradients by name."""
    caches, grads = [], {}
    x = nf.embedding(tokens, p["tokens"])
    x += p["positions"]
    x = x.reshape(tokens.size, -1)
    for i in range(blocks):
        a, norm1 = layer_norm(x, p[f"gamma1.{i}"], p[f"beta1.{i}"])
        y, att = attention(a @ p[f"qkv.{i}"], len(tokens), heads)
        x = x + y @ p[f"project.{i}"]
        b, norm2 = layer_norm(x, p[f"gamma2.{i}"], p[f"beta2.{i}"])
        h, gelu = bias_gelu(b @ p[f"up.{i}"], p[f"bias.{i}"])
        x = x + h @ p[f"down.{i}"]
        caches.append((a, norm1, y, att, b, norm2, h, gelu))
    x, norm = layer_norm(x, p["gamma"], p["beta"])
    loss, ds = nf.softmax_cross_entropy(x @ p["tokens"].T, targets.ravel())
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
    grads["tokens"] += nf.embedding_backward(dx, tokens.ravel(), len(p["tokens"]))
    grads["positions"] = dx.reshape(*tokens.shape, -1).sum(axis=0)
    return loss, grads


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
    optimizer = nf.optim.AdamW(p, lr=LR, betas=(0.9, 0.99), weight_decay=DECAY)
    for _ in range(steps):
        tokens = text[rng.integers(0, len(text) - time, (batch, 1)) + np.arange(time + 1)]
        loss, grads = loss_and_grads(p, tokens[:, :-1], tokens[:, 1:], blocks, heads)
        optimizer.step(grads)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 10, 20, 30, 40 steps:", np.round(main(np.float64)[9::10], 3))
