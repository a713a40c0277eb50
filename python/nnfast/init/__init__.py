"""Initial weights and biases: constants, random numbers of a chosen variance, orthogonal matrices.

Every function gives a new array of a shape, or fills `out`, whose shape is taken where none is given. They are called
alike, ``f(shape, dtype=..., rng=..., out=...)``, so that a layer can be given any of them; by_name finds those that
need no more by the names people use, "he" or "xavier".

Random numbers come from nnfast.random.Philox: a seed gives the same ones for every number of threads, all strides and
both dtypes. They are numbers of float32, which a float64 array takes as they are, so that networks of float32 and of
float64 begin alike; only orthogonal computes in float64, and rounds. (Philox itself has numbers of 53 bits.) An int or
a SeedSequence gives the same numbers at every call, and so the layers of a network the same beginning. A Philox stream
is drawn from where it stands and moves on, and a Generator is advanced by one raw draw of its bit generator, which is
the seed: one of these two serves a whole network.

How far random weights may spread follows from the fans of a layer, the number of inputs a unit sums up and of units an
input goes to, since a sum of n products has n times their variance.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> stream = nf.random.Philox(seed=0)
>>> w1 = nf.init.he_normal((800, 500), rng=stream)
>>> w2 = nf.init.xavier_uniform((500, 10), rng=stream)
>>> b2 = nf.init.zeros(10)
>>> round(float(w1.std()), 3), (2 / 800) ** 0.5
(0.05, 0.05)
"""

# ruff: noqa: F403
from nnfast import _docs
from nnfast.init import by_fans, constants, distributions, matrices, names, spread
from nnfast.init.arguments import Rng as Rng
from nnfast.init.by_fans import *
from nnfast.init.constants import *
from nnfast.init.distributions import *
from nnfast.init.matrices import *
from nnfast.init.names import *
from nnfast.init.names import NAMES as NAMES
from nnfast.init.names import Initialiser as Initialiser
from nnfast.init.spread import *

__all__: list[str] = []
__all__ += constants.__all__
__all__ += distributions.__all__
__all__ += by_fans.__all__
__all__ += matrices.__all__
__all__ += spread.__all__
__all__ += names.__all__

_docs.finish(
    __name__,
    {
        "value": "The number.",
        "w": "The weights: out, or a new array.",
        "b": "The biases: out, or a new array.",
    },
)
