"""
Augmentation
============

What ``nf.augmentation`` does to a batch of images: each image by its own chance. Digits may be moved; they are
mirrored here only to show what that looks like.
"""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnfast as nf

images = (load_digits().images[:8, None] / 16).astype(np.float32)
rng = np.random.default_rng(0)
ways = {
    "as it is": lambda x: x,
    "random_crop": partial(nf.augmentation.random_crop, size=8, padding=2, rng=rng),
    "random_flip": partial(nf.augmentation.random_flip, p=0.5, rng=rng),
    "random_noise": partial(nf.augmentation.random_noise, std=0.2, rng=rng),
    "random_erasing": partial(nf.augmentation.random_erasing, p=1.0, rng=rng),
}

figure, axes = plt.subplots(len(ways), len(images), figsize=(9, 6), layout="constrained")
for row, (name, augment) in zip(axes, ways.items(), strict=True):
    for ax, image in zip(row, augment(images), strict=True):
        ax.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
