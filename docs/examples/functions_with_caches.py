"""A classifier of functions that return a cache, in NumPy: the style of the CS231n assignments.

Every forward function returns its output and what its backward function needs; an update rule takes a parameter, its
gradient and a config. The layers: affine, batch norm, relu, dropout, affine, softmax. The data are drawn from ten
normal distributions of 784 features.
"""

import numpy as np

KEEP, LEARNING_RATE = 0.8, 1e-3


def batchnorm_forward(x, gamma, beta, bn_param, momentum=0.9, eps=1e-5):
    x = x - (mean := x.mean(axis=0))
    y = np.square(x)
    var = y.mean(axis=0)
    for name, value in (("mean", mean), ("var", var)):
        bn_param[name] = momentum * bn_param[name] + (1 - momentum) * value
    inv_std = 1 / np.sqrt(var + eps)
    x *= inv_std
    np.multiply(x, gamma, out=y)
    y += beta
    return y, (x, gamma, inv_std)


def batchnorm_backward(dy, cache):
    x, gamma, inv_std = cache
    dx = dy * x
    dgamma, dbeta = dx.sum(axis=0), dy.sum(axis=0)
    np.multiply(x, dgamma / -len(x), out=dx)
    dx += dy
    dx -= dbeta / len(x)
    dx *= gamma * inv_std
    return dx, dgamma, dbeta


def relu_forward(x):
    return np.maximum(x, 0, out=x), x > 0


def relu_backward(dy, positive):
    return np.multiply(dy, positive, out=dy)


def dropout_forward(x, rng, keep):
    kept = keep(x.shape) if keep else rng.random(x.shape, dtype=np.float32) < KEEP
    mask = np.multiply(kept, 1 / KEEP, dtype=x.dtype)
    return np.multiply(x, mask, out=x), mask


def dropout_backward(dy, mask):
    return np.multiply(dy, mask, out=dy)


def softmax_loss(scores, labels):
    rows = np.arange(len(scores))
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores, out=scores)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    p /= len(p)
    return float(loss), p


def adam(w, dw, config, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v, t = config or (np.zeros_like(w), np.zeros_like(w), 0)
    t += 1
    step = (1 - beta1) * dw
    m *= beta1
    m += step
    np.square(dw, out=step)
    step *= 1 - beta2
    v *= beta2
    v += step
    np.sqrt(v, out=step)
    step /= (1 - beta2**t) ** 0.5
    step += eps
    np.divide(m, step, out=step)
    step *= LEARNING_RATE / (1 - beta1**t)
    w -= step
    return w, (m, v, t)


def loss_and_grads(p, bn_param, x, labels, rng, keep):
    y, norm = batchnorm_forward(x @ p["W1"], p["gamma"], p["beta"], bn_param)
    h, relu = relu_forward(y)
    h, drop = dropout_forward(h, rng, keep)
    loss, dscores = softmax_loss(h @ p["W2"], labels)
    dh = dropout_backward(dscores @ p["W2"].T, drop)
    dy = relu_backward(dh, relu)
    dz, dgamma, dbeta = batchnorm_backward(dy, norm)
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
    configs, losses = dict.fromkeys(params), []
    for i in range(steps):
        loss, grads = loss_and_grads(params, bn_param, x[i % 20], labels[i % 20], rng, keep)
        for name in params:
            params[name], configs[name] = adam(params[name], grads[name], configs[name])
        losses.append(loss)
    return losses


if __name__ == "__main__":
    print("loss after 50, 100, 150, 200 steps:", np.round(main(np.float64)[49::50], 3))
