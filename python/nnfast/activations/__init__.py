"""Activations and their gradients.

Those without an optional parameter are NumPy ufuncs; the others, and the gradients, are functions over ufuncs and take
the keywords of one: ``out=``, ``where=``, ``dtype=``, ``casting=``, ``order=``, ``subok=``.

A gradient is ``<name>_backward(dy, saved)``: ``saved`` is the output ``y`` where the gradient follows from it, so that
a training step may overwrite x, and the input ``x`` elsewhere; ``x=`` or ``y=`` say which one is given. Its ufunc is
``<name>_backward.ufunc``. ``TABLE`` says of each what it is: formula, parameters, what is saved, error bound, exact
points.
"""

# ruff: noqa: F403
from nnfast._table import TABLE as TABLE
from nnfast._table import Activation as Activation
from nnfast.activations import derivatives, max_of_pieces, parametric, plain, random_slopes
from nnfast.activations.derivatives import *
from nnfast.activations.max_of_pieces import *
from nnfast.activations.parametric import *
from nnfast.activations.plain import *
from nnfast.activations.random_slopes import *
from nnfast.activations.ufuncs import UFUNCS

__all__: list[str] = []
__all__ += derivatives.__all__
__all__ += max_of_pieces.__all__
__all__ += parametric.__all__
__all__ += plain.__all__
__all__ += random_slopes.__all__

# Ufuncs under a Python function: pickle finds them here by their names.
globals().update({name: ufunc for name, ufunc in UFUNCS.items() if name.startswith("_")})
