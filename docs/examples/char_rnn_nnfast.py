"""A recurrent network that learns to write a text, character by character, over nnfast: the style of min-char-rnn.

At each time step h becomes tanh(h @ whh + embedding of the character), and gives scores for the next character. The
text is read in pieces of 25; gradients go back through one piece, are clipped, and Adagrad updates the weights.
"""

from pathlib import Path

import numpy as np

import nnfast as nf

TEXT = Path(__file__).parents[2] / "LICENSE"
LEARNING_RATE, TIME = 0.05, 25


def loss_and_grads(p, chars, targets, h):
    """Through time and back: the loss, the gradients, and the last h."""
    hs = np.empty((len(chars) + 1, len(h)), h.dtype)
    hs[0] = h
    inputs = nf.embedding(chars, p["embedding"])
    for h, z, x in zip(hs, hs[1:], inputs):
        np.matmul(h, p["whh"], out=z)
        nf.bias_tanh(z, x, out=z)
    scores = hs[1:] @ p["why"]
    scores += p["by"]
    loss, dscores = nf.softmax_cross_entropy(scores, targets, out=scores)
    dz = dscores @ p["why"].T
    dh = np.zeros_like(h)
    for d, h in zip(dz[::-1], hs[:0:-1]):
        d += dh
        nf.tanh_backward(d, y=h, out=d)
        np.matmul(p["whh"], d, out=dh)
    grads = {
        "embedding": nf.embedding_backward(dz, chars, len(p["embedding"])),
        "whh": hs[:-1].T @ dz,
        "why": hs[1:].T @ dscores,
        "by": dscores.sum(axis=0),
    }
    return loss, grads, hs[-1]


def main(dtype=np.float32, steps=400, hidden=512):
    """The loss of every step."""
    alphabet, text = np.unique(list(TEXT.read_text(encoding="utf-8")), return_inverse=True)
    n, rng, losses = len(alphabet), np.random.default_rng(0), []
    shapes = {"embedding": (n, hidden), "whh": (hidden, hidden), "why": (hidden, n)}
    p = {name: rng.normal(0, hidden**-0.5, s).astype(dtype) for name, s in shapes.items()}
    p["by"] = np.zeros(n, dtype)
    rule = {"lr": LEARNING_RATE, "eps": 1e-8, "initial_accumulator_value": 0, "clip_value": 5}
    optimizer = nf.optim.Adagrad(p, convention="optax", **rule)  # eps inside the root
    pieces = len(text) // TIME - 1
    for step in range(steps):
        start = step % pieces * TIME
        if start == 0:
            h = np.zeros(hidden, dtype)
        chars, targets = text[start : start + TIME], text[start + 1 : start + TIME + 1]
        loss, grads, h = loss_and_grads(p, chars, targets, h)
        optimizer.step(grads)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss of each 100 steps:", np.mean(np.split(np.array(main(float)), 4), axis=1).round(3))
