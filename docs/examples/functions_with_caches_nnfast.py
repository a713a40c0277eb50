"""A classifier of functions that return a cache, over nnfast: the style of the CS231n assignments.

Every forward function returns its output and what its backward function needs; an update rule takes a parameter, its
gradient and a config. The layers: affine, batch norm, relu, dropout, affine, softmax. The data are drawn from ten
normal distributions of 784 features.
"""

import numpy as np

import nnfast as nf

KEEP, LEARNING_RATE = 0.8, 1e-3


def batchnorm_relu_forward(x, gamma, beta, bn_param):
    running = bn_param["mean"], bn_param["var"]
    y, saved = nf.batch_norm(
        x, gamma, beta, *running, training=True, convention="cs231n", activation="relu"
    )
    return y, (x, gamma, saved)


def batchnorm_relu_backward(dy, cache):
    return nf.batch_norm_backward(dy, *cache, out=(dy, None, None))


def dropout_forward(x, rng, keep):
    mask = keep(x.shape) if keep else None
    return nf.dropout(x, KEEP, mode="cs231n", rng=rng, mask=mask, out=x)


def dropout_backward(dy, mask):
    return nf.dropout_backward(dy, mask, KEEP, mode="cs231n", out=dy)


def loss_and_grads(p, bn_param, x, labels, rng, keep):
    y, norm = batchnorm_relu_forward(x @ p["W1"], p["gamma"], p["beta"], bn_param)
    h, drop = dropout_forward(y, rng, keep)
    loss, dscores = nf.softmax_cross_entropy(h @ p["W2"], labels)
    dy = dropout_backward(dscores @ p["W2"].T, drop)
    dz, dgamma, dbeta = batchnorm_relu_backward(dy, norm)
    return loss, {"W1": x.T @ dz, "gamma": dgamma, "beta": dbeta, "W2": h.T @ dscores}


def main(dtype=np.float32, steps=200, features=784, hidden=300, batch=64, keep=None):
    """The loss of every step; keep(shape), if given, says which elements dropout keeps."""
    rng, data = np.random.default_rng(0), np.random.default_rng(1)
    params = {
        "W1": rng.normal(0, (2 / features) ** 0.5, (features, hidden)).astype(dtype),
        "gamma": np.ones(hidden, dtype),
        "beta": np.zeros(hidden, dtype),
        "W2": rng.normal(0, (2 / hidden) ** 0.5, (hidden, 10)).astype(dtype),
    }
    bn_param = {"mean": np.zeros(hidden, dtype), "var": np.zeros(hidden, dtype)}
    labels = data.integers(0, 10, (20, batch))
    x = data.normal(0, 1, (10, features))[labels] + data.normal(0, 5, (20, batch, features))
    x = x.astype(dtype)
    state, losses = None, []
    for i in range(steps):
        loss, grads = loss_and_grads(params, bn_param, x[i % 20], labels[i % 20], rng, keep)
        params, state = nf.optim.adam(params, grads, state, lr=LEARNING_RATE)
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 3))
