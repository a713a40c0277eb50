"""Activations without parameters, which are ufuncs, and their gradients."""

from nnfast._table import TABLE
from nnfast.activations.gradients import of_x, of_y
from nnfast.activations.ufuncs import UFUNCS

__all__ = [
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "relu_squared",
    "relu_squared_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
]

hardsigmoid = UFUNCS["hardsigmoid"]
hardswish = UFUNCS["hardswish"]
logsigmoid = UFUNCS["logsigmoid"]
mish = UFUNCS["mish"]
relu = UFUNCS["relu"]
relu6 = UFUNCS["relu6"]
relu_squared = UFUNCS["relu_squared"]
selu = UFUNCS["selu"]
sigmoid = UFUNCS["sigmoid"]
silu = UFUNCS["silu"]
softsign = UFUNCS["softsign"]
tanh = UFUNCS["tanh"]
tanhshrink = UFUNCS["tanhshrink"]

hardsigmoid_backward = of_x("hardsigmoid")
hardswish_backward = of_x("hardswish")
logsigmoid_backward = of_x("logsigmoid")
mish_backward = of_x("mish")
relu_backward = of_y("relu")
relu6_backward = of_y("relu6")
relu_squared_backward = of_x("relu_squared")
selu_backward = of_y("selu")
sigmoid_backward = of_y("sigmoid")
silu_backward = of_x("silu")
softsign_backward = of_x("softsign")
tanh_backward = of_y("tanh")
tanhshrink_backward = of_x("tanhshrink")

# doctest does not look into ufuncs by itself.
__test__ = {name: UFUNCS[name].__doc__ for name in TABLE if name in UFUNCS}
