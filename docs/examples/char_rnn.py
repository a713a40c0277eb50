"""A recurrent network that learns to write a text, character by character, in NumPy: the style of min-char-rnn.

At each time step h becomes tanh(h @ whh + embedding of the character), and gives scores for the next character. The
text is read in pieces of 25; gradients go back through one piece, are clipped, and Adagrad updates the weights.
"""

from pathlib import Path

import numpy as np

TEXT = Path(__file__).parents[2] / "LICENSE"
LEARNING_RATE, TIME = 0.05, 25


def softmax_cross_entropy(scores, targets):
    """The mean loss, and its gradient with respect to the scores, which are overwritten."""
    rows = np.arange(len(scores))
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores, out=scores)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, targets]).mean()
    p[rows, targets] -= 1
    p /= len(p)
    return float(loss), p


def loss_and_grads(p, chars, targets, h):
    """Through time and back: the loss, the gradients, and the last h."""
    hs = np.empty((len(chars) + 1, len(h)), h.dtype)
    hs[0] = h
    inputs = p["embedding"][chars]
    for h, z, x in zip(hs, hs[1:], inputs):
        np.matmul(h, p["whh"], out=z)
        z += x
        np.tanh(z, out=z)
    scores = hs[1:] @ p["why"]
    scores += p["by"]
    loss, dscores = softmax_cross_entropy(scores, targets)
    dz = dscores @ p["why"].T
    slopes = np.square(hs[1:])
    np.subtract(1, slopes, out=slopes)
    dh = np.zeros_like(h)
    for d, slope in zip(dz[::-1], slopes[::-1]):
        d += dh
        d *= slope
        np.matmul(p["whh"], d, out=dh)
    one_hot = np.eye(len(p["embedding"]), dtype=h.dtype)[chars]
    grads = {
        "embedding": one_hot.T @ dz,
        "whh": hs[:-1].T @ dz,
        "why": hs[1:].T @ dscores,
        "by": dscores.sum(axis=0),
    }
    return loss, grads, hs[-1]


def adagrad(p, grads, memory):
    for name, g in grads.items():
        np.clip(g, -5, 5, out=g)
        step = np.square(g)
        memory[name] += step
        np.add(memory[name], 1e-8, out=step)
        np.sqrt(step, out=step)
        np.divide(g, step, out=step)
        step *= LEARNING_RATE
        p[name] -= step


def main(dtype=np.float32, steps=400, hidden=512):
    """The loss of every step."""
    alphabet, text = np.unique(list(TEXT.read_text(encoding="utf-8")), return_inverse=True)
    n, rng, losses = len(alphabet), np.random.default_rng(0), []
    shapes = {"embedding": (n, hidden), "whh": (hidden, hidden), "why": (hidden, n)}
    p = {name: rng.normal(0, hidden**-0.5, s).astype(dtype) for name, s in shapes.items()}
    p["by"] = np.zeros(n, dtype)
    memory = {name: np.zeros_like(w) for name, w in p.items()}
    pieces = len(text) // TIME - 1
    for step in range(steps):
        start = step % pieces * TIME
        if start == 0:
            h = np.zeros(hidden, dtype)
        chars, targets = text[start : start + TIME], text[start + 1 : start + TIME + 1]
        loss, grads, h = loss_and_grads(p, chars, targets, h)
        adagrad(p, grads, memory)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss of each 100 steps:", np.mean(np.split(np.array(main(float)), 4), axis=1).round(3))
