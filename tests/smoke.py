"""What an installed wheel has to do: a piece of every family beside NumPy, and a network that is trained.

Needs NumPy alone, and no pytest: python tests/smoke.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import nnfast as nf


def check_functions() -> None:
    """The families beside their formulas."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((33, 40), dtype=np.float32)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    pairs = {
        "relu": (nf.relu(x), np.maximum(x, 0)),
        "tanh": (nf.tanh(x), np.tanh(x)),
        "float16": (nf.tanh(x.astype(np.float16)), np.tanh(x.astype(np.float16))),
        "bias_relu": (nf.bias_relu(x, x[0]), np.maximum(x + x[0], 0)),
        "glu": (nf.glu(x), x[:, :20] / (1 + np.exp(-x[:, 20:]))),
        "softmax": (nf.softmax(x), p),
        "layer_norm": (
            nf.layer_norm(x)[0],
            (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5),
        ),
        "batch_norm": (
            nf.batch_norm(x, training=True)[0],
            (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5),
        ),
        "softmax_cross_entropy": (
            nf.softmax_cross_entropy(x, np.arange(33))[0],
            -np.log(p[np.arange(33), np.arange(33)]).mean(),
        ),
        "mse_loss": (nf.mse_loss(x, x[::-1])[0], np.mean((x - x[::-1]) ** 2)),
    }
    for name, (found, expected) in pairs.items():
        assert np.allclose(found, expected, rtol=2e-3, atol=2e-3), name
    y, mask = nf.dropout(x, 0.25, rng=0)
    kept = np.unpackbits(mask, count=x.size, bitorder="little").reshape(x.shape)
    assert np.allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    assert 0.2 < (y == 0).mean() < 0.3
    assert abs(nf.random.Philox(0).normal(10_000).mean()) < 0.05
    assert nf.penalties.l2([x], 1.0) > 0


def check_training() -> None:
    """Layers, an optimizer and a schedule learn something, and come back from a file."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8), dtype=np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    net = nf.nn.Sequential(
        nf.nn.Dense(8, 32, rng=1),
        nf.nn.BatchNorm(32),
        nf.nn.ReLU(),
        nf.nn.Dropout(0.1, rng=2),
        nf.nn.Dense(32, 2, rng=3),
    )
    schedule = nf.schedules.Cosine(3e-2, 200)
    opt = nf.optim.Adam(net.params)
    for step in range(200):
        opt.lr = schedule(step)
        z = net.forward(x, training=True)
        loss, dz = nf.softmax_cross_entropy(z, labels, out=z)
        net.backward(dz)
        opt.step(net.grads)
    y = net.forward(x)
    assert loss < 0.4, loss
    assert (y.argmax(axis=1) == labels).mean() > 0.9
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.npz"
        net.save(path)
        net.params[0][...] = 0
        net.load(path)
    assert np.array_equal(net.forward(x), y)


if __name__ == "__main__":
    check_functions()
    check_training()
    print(f"nnfast {nf.__version__} on {nf.cpu_info()['chosen']}: all is well")
