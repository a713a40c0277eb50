"""Losses with their gradients from one pass.

Each returns its value, accumulated in float64, and the gradient with respect to its first argument; those of
embeddings and of a variance return one for each of their arrays. ``reduction="mean"`` gives the mean over the rows
(losses of classes and of embeddings) or over all elements, ``"sum"`` their sum, and ``"none"`` the loss of each row or
element as a float64 array, with the gradient of the sum.
"""

# ruff: noqa: F403
from nnfast.losses import binary, classification, embeddings, regression
from nnfast.losses.binary import *
from nnfast.losses.classification import *
from nnfast.losses.embeddings import *
from nnfast.losses.regression import *

__all__: list[str] = []
__all__ += binary.__all__
__all__ += classification.__all__
__all__ += embeddings.__all__
__all__ += regression.__all__
