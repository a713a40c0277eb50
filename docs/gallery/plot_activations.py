"""
Activations and their slopes
============================

Every elementwise activation of nnfast, and f'(x), which is ``nf.derivative``. The names come from
``nnfast.activations.TABLE``, so a new one is here by itself.
"""

import matplotlib.pyplot as plt
import numpy as np

import nnfast as nf

names = [name for name in nf.activations.TABLE if name not in ("prelu", "gelu_tanh")]
x = np.linspace(-5, 7, 481)

columns = 4
rows = -(-len(names) // columns)
figure, axes = plt.subplots(
    rows, columns, figsize=(10, 2.1 * rows), sharex=True, layout="constrained"
)
for ax, name in zip(axes.flat, names, strict=False):
    ax.plot(x, getattr(nf, name)(x), label="f(x)")
    ax.plot(x, nf.derivative(name, x), "--", label="f'(x)")
    ax.set_title(name, size=10)
    ax.set_ylim(-1.6, 6.5)
    ax.grid(alpha=0.3)
for ax in axes.flat[len(names) :]:
    ax.set_axis_off()
axes.flat[0].legend(loc="upper left", fontsize=8)
plt.show()
