"""ONNX Runtime: a model of one node, inputs and outputs bound to memory that stays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from bench.case import Arrays, Forms

NAME, VERSION = "ONNX Runtime", onnxruntime.__version__
Values = dict[str, float]
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
_threads = [0]


def set_threads(n: int) -> bool:
    """Sessions made from now on have n threads."""
    _threads[0] = n
    return True


def session(node: Any, arrays: Arrays) -> onnxruntime.InferenceSession:
    """A session that runs one node and does not spin after it."""
    dtype = TYPES[next(iter(arrays.values())).dtype]
    inputs = [helper.make_tensor_value_info(n, dtype, a.shape) for n, a in arrays.items()]
    shape = next(iter(arrays.values())).shape
    outputs = [helper.make_tensor_value_info("out", dtype, shape)]
    graph = helper.make_graph([node], "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads[0]
    options.log_severity_level = 4
    # Its workers would spin for 38 ms after every call, in which nobody else can be timed; a call loses little.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def operator(
    kind: str, attributes: dict[str, str] | None = None, **fixed: Any
) -> Callable[[Arrays, Values], Forms]:
    """A call of one operator, its attributes named as our values are; nothing where it has no kernel for the dtype."""
    attributes = attributes or {}

    def make(arrays: Arrays, values: Values) -> Forms:
        chosen = {attribute: values[name] for attribute, name in attributes.items()}
        node = helper.make_node(kind, list(arrays), ["out"], **chosen, **fixed)
        try:
            run = session(node, arrays)
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error) or "INVALID_GRAPH" in str(error):
                return {}
            raise
        binding = run.io_binding()
        out = np.empty_like(next(iter(arrays.values())))
        for name, array in arrays.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_output("out", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call() -> Any:
            run.run_with_iobinding(binding)
            return out

        return {"bound": call}

    return make


OPERATIONS = {
    "hardsigmoid": operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": operator("HardSwish"),
    "celu": operator("Celu", {"alpha": "alpha"}),
    "selu": operator("Selu"),
    "softplus": operator("Softplus"),
    "softsign": operator("Softsign"),
    "mish": operator("Mish"),
    "gelu": operator("Gelu"),
    "relu": operator("Relu"),
    "leaky_relu": operator("LeakyRelu", {"alpha": "negative_slope"}),
    "prelu": operator("PRelu"),
    "elu": operator("Elu", {"alpha": "alpha"}),
    "sigmoid": operator("Sigmoid"),
    "tanh": operator("Tanh"),
    "softmax": operator("Softmax", axis=-1),
    "log_softmax": operator("LogSoftmax", axis=-1),
    "layer_norm": operator("LayerNormalization", epsilon=1e-5),
    "batch_norm inference": operator("BatchNormalization", epsilon=1e-5),
}
