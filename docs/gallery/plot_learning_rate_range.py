"""
A search for the learning rate
==============================

One training whose rate grows by a factor at every step. Where the loss begins to fall the rate is large enough;
where it is lowest the rate is nearly too large. The suggestion is a tenth of that.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

x, labels = load_digits(return_X_y=True)
x = ((x - x.mean()) / x.std()).astype(np.float32)
net = nf.nn.Sequential(
    nf.nn.Dense(64, 128, rng=0), nf.nn.BatchNorm(128), nf.nn.ReLU(), nf.nn.Dense(128, 10, rng=1)
)

found = nf.checks.learning_rate_range(net, x, labels, optimizer=nf.optim.Adam)
print(found)

_, axes = plt.subplots(figsize=(8, 4), layout="constrained")
found.plot(axes)
plt.show()
