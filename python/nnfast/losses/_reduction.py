"""What the signatures of all losses name."""

from typing import Any, Literal

Reduction = Literal["mean", "sum", "none"]
# A float, or with reduction="none" an array.
Loss = Any
