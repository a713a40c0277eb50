"""Softmax, softmin, log_softmax, logsumexp and sparsemax with their gradients, along any axes; masked softmax."""

# ruff: noqa: F403
from nnfast.softmax import masked, plain, sparse, sums
from nnfast.softmax.masked import *
from nnfast.softmax.plain import *
from nnfast.softmax.sparse import *
from nnfast.softmax.sums import *

__all__: list[str] = []
__all__ += plain.__all__
__all__ += sums.__all__
__all__ += sparse.__all__
__all__ += masked.__all__
