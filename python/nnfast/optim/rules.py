"""The rules whose steps are kernels, each from the file of its subject; pickles up to version 0.2 find them here."""

from nnfast.optim.adam_family import Adam, Adamax, AdamW, NAdam, RAdam
from nnfast.optim.adaptive import AdaBelief, Adan, Ftrl, Yogi
from nnfast.optim.batch_rules import ASGD, Rprop
from nnfast.optim.layerwise import LAMB, LARS
from nnfast.optim.momentum import SGD, Lion
from nnfast.optim.squares import Adadelta, Adagrad, RMSprop

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Ftrl",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Yogi",
]
