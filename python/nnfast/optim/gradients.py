"""Gradients as an optimizer takes them: arrays, rows of tables, and those that were accumulated for the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from nnfast import _array_lists
from nnfast._array_lists import Arrays
from nnfast._load import _core
from nnfast.optim.accumulation import Accumulated
from nnfast.optim.rows import Rows
from nnfast.optim.saved import Saved

Grad = NDArray[Any] | Rows | None
Grads = Sequence[Grad] | Mapping[str, Grad]


class TakesGradients(Saved):
    """Checks of gradients, and what waits of them for the next step."""

    _takes_rows: ClassVar[bool] = False  # as gradients

    _unbound = False  # a clone that has no parameters yet
    _core: _core.Optimizer

    def accumulate(self, grads: Grads) -> None:
        """Add gradients to those that the next step takes: of a large batch in parts, as memory allows.

        Parameters
        ----------
        grads : sequence or mapping of ndarrays
            As step takes them. None leaves what was accumulated for its parameter as it is. Rows are kept as they are,
            and take Rows alone after them.

        Raises
        ------
        TypeError, ValueError, IndexError
            As step. Nothing is changed then.

        Notes
        -----
        Sums are accumulated in the dtype of the state, float32 for float16 and bfloat16. The next step takes
        them with its own gradients, of which they are a part in whatever it does, clipping and statistics; a skipped
        step does so, too. ``state_dict`` and ``save`` have them. Where losses are means, ``grad_scale`` is 1 over the
        number of parts.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> w = np.zeros(2)
        >>> opt = nf.optim.SGD([w], lr=1.0)
        >>> opt.accumulate([np.array([1.0, 2.0])])
        >>> opt.step([np.array([3.0, 0.0])], grad_scale=1 / 2)
        >>> w
        array([-2., -1.])
        """
        if self._unbound:
            raise ValueError("a clone without parameters must be given them in a step first")
        found = self._accumulated
        if found is not None and self._names is None and not found.any_rows:
            pending = found.pending or [None] * len(self.params)
            of = self.params, grads, self.state, self.ema, self._master, None
            if self._core.accumulate(*of, found.sums, pending):
                found.pending = pending
                return
        arrays = self._values_like(grads)
        if found is None:  # one without sums has their memory
            found = Accumulated(len(self.params))
        rows = self._joined(arrays, found)
        dense = {i: g for i, g in enumerate(arrays) if g is not None and i not in rows}
        self._check_gradients(dense)
        found.add(self.params, dense)
        for i, joined in rows.items():
            found.put_rows(i, joined)
        self._accumulated = found
        self._mark()

    def _values_like(self, grads: Grads) -> list[Any]:
        """The gradients in the order of the parameters."""
        return list(_array_lists.values_like(cast(Arrays, grads), self._names, "grads"))

    def _label(self, i: int) -> str:
        return f"grads[{(self._names or range(len(self.params)))[i]!r}]"

    def _joined(self, grads: list[Any], waiting: Accumulated) -> dict[int, Rows]:
        """The gradients that are Rows, checked, each with those that were accumulated."""
        if len(grads) != len(self.params):
            raise ValueError(
                f"grads must have one array for each of the {len(self.params)} parameters, got {len(grads)}"
            )
        found = {}
        for i, grad in enumerate(grads):
            before = waiting.rows[i]
            if isinstance(grad, Rows):
                self._check_rows(i, grad)
                if waiting.sum_of(i) is not None:
                    raise TypeError(
                        f"{self._label(i)} must be an array, as what was accumulated is, got Rows"
                    )
                found[i] = grad if before is None else before + grad
            elif before is not None:
                if grad is not None:
                    raise TypeError(
                        f"{self._label(i)} must be Rows, as what was accumulated is, "
                        f"got {type(grad).__name__}"
                    )
                found[i] = before
        return found

    def _check_rows(self, i: int, rows: Rows) -> None:
        if not self._takes_rows:
            raise TypeError(
                f"{self._label(i)} must be an array, as {type(self).__name__} takes no Rows; "
                "SGD, Adagrad, Adam and AdamW do"
            )
        if self._is_packed:
            raise TypeError(
                f"{self._label(i)} must be an array where state_dtype is {self._state_dtype!r}, got Rows"
            )
        for option in ("clip_block_rms", "clip_adaptive"):
            if self._clip_name == option:
                raise TypeError(f"{self._label(i)} must be an array where {option} is given")
        if self.ema_decay is not None and self.ema_bias_correction:
            raise ValueError(
                f"ema_bias_correction must be False where {self._label(i)} is Rows: "
                "rows that were not named yet have no average to correct"
            )
        rows._check(self.params[i], self._label(i))

    def _check_gradients(self, grads: Mapping[int, Any]) -> None:
        """Check gradients of the parameters at these places as a step does."""
        if not grads:
            return
        chosen = list(grads)
        keys = some(self._names or range(len(self.params)), chosen)
        params, ema, master = (
            some(values, chosen) for values in (self.params, self.ema, self._master)
        )
        state = {name: some(arrays, chosen) for name, arrays in self.state.items()}
        self._core.check(params, state, ema, master, keys, list(grads.values()))


def some(values: Any, chosen: list[int]) -> Any:
    """The values of the chosen parameters, or None for None."""
    return None if values is None else [values[i] for i in chosen]
