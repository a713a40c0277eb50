"""L-BFGS: whole batches, and a function that computes the loss as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast import _array_lists, _arrays, _checks
from nnfast._array_lists import Arrays
from nnfast._state import refuse_copies
from nnfast.optim.curvature import Curvature, dot
from nnfast.optim.line_search import CURVATURE, Point, strong_wolfe

__all__ = ["LBFGS"]

Closure = Callable[[], tuple[Any, Arrays]]


class Settings(NamedTuple):
    """The checked settings of a step."""

    max_iter: int
    max_eval: int
    tolerance_grad: float
    tolerance_change: float
    history_size: int


class LBFGS:
    """L-BFGS, for the loss of a whole batch: steps by curvature, each with a line search.

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float16, float32 or float64
        Updated in place.
    max_iter : int, default 20
        Iterations of a step.
    max_eval : int, optional
        Calls of the closure in a step, after which no iteration is begun; None is 1.25 max_iter.
    tolerance_grad : float, default 1e-7
        A step ends where no element of the gradient is larger.
    tolerance_change : float, default 1e-9
        And where an iteration lowers the loss by less than this share of it.
    history_size : int, default 100
        How many pairs of changes the curvature is estimated from.

    Attributes
    ----------
    params : list of ndarrays
    step_count : int
    message : str
        Why the last step ended.

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range or an array is read-only.

    See Also
    --------
    Adam : For batches, whose noise a line search does not bear.

    Notes
    -----
    The arguments are PyTorch's ``torch.optim.LBFGS``, without lr and line_search_fn: each iteration searches along its
    line, by the strong Wolfe conditions. All parameters are one float64 vector there, and are rounded to their dtypes
    before each call of the closure. The estimate of the curvature begins anew at each step, so that few long steps are
    better than many short ones. There is no other state to save. A step takes memory for the pairs: at most
    2 min(history_size, max_iter) float64 numbers for each parameter.

    References
    ----------
    Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989; Byrd, Nocedal, Schnabel,
    "Representations of quasi-Newton matrices and their use in limited memory methods", 1994.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([-1.0, 1.0])
    >>> def closure():
    ...     loss = 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2
    ...     slope = 200 * (w[1] - w[0] ** 2)
    ...     return loss, [np.array([-2 * w[0] * slope - 2 * (1 - w[0]), slope])]
    >>> opt = nf.optim.LBFGS([w], max_iter=100)
    >>> first = opt.step(closure)
    >>> float(first), w.round(4)
    (4.0, array([1., 1.]))
    """

    def __init__(
        self,
        params: Arrays,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
    ) -> None:
        refuse_copies(params, "params")
        self._names = _array_lists.names_of(params)
        self.params: list[NDArray[Any]] = _array_lists.values(params, "params")
        self._check_params()
        self.max_iter, self.max_eval = max_iter, max_eval
        self.tolerance_grad, self.tolerance_change = tolerance_grad, tolerance_change
        self.history_size = history_size
        self._settings()
        self.step_count = 0
        self.message = ""

    def step(self, closure: Closure) -> Any:
        """Minimize the loss by up to max_iter iterations, and leave the parameters where it was least.

        Parameters
        ----------
        closure : callable without arguments
            Computes the loss of the parameters as they are, and returns it with the gradients: as params were given,
            of their shapes.

        Returns
        -------
        loss : float
            That of the first call, before anything was changed.

        Raises
        ------
        TypeError
            If closure is no function or returns something else than a loss and gradients.
        ValueError
            If the gradients have other counts, names or shapes, or a parameter has become read-only. The parameters
            are as they were before, as after whatever closure raises.
        """
        if not callable(closure):
            raise TypeError(f"closure must be a function, got {type(closure).__name__}")
        self._check_params()
        settings = self._settings()
        before = [param.copy() for param in self.params]
        try:
            loss, self.message = self._minimize(closure, settings)
        except BaseException:
            for param, old in zip(self.params, before, strict=True):
                param[...] = old
            raise
        self.step_count += 1
        return loss

    def _minimize(self, closure: Closure, settings: Settings) -> tuple[Any, str]:
        """The loss where it begins, and why it ends."""
        size = sum(param.size for param in self.params)
        if size == 0:
            return self._call(
                closure, [np.empty(p.shape) for p in self.params]
            ), "there are no parameters"
        curvature = Curvature(size, min(settings.history_size, settings.max_iter))
        lines = _Lines(partial(self._call, closure), self.params, curvature)
        message = lines.minimize(curvature, settings)
        return lines.losses[0], message

    def _call(self, closure: Closure, gradients: list[NDArray[np.float64]]) -> Any:
        """The loss; its gradients are written."""
        returned = closure()
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                f"closure must return the loss and the gradients, got {type(returned).__name__}"
            )
        loss, given = returned
        _checks.real(loss, "the loss of closure")
        grads = _array_lists.values_like(given, self._names, "the gradients of closure")
        if len(grads) != len(self.params):
            raise ValueError(
                f"the gradients of closure must have one array for each of the {len(self.params)} parameters, "
                f"got {len(grads)}"
            )
        for i, (grad, param) in enumerate(zip(grads, self.params, strict=True)):
            if np.shape(grad) != param.shape:
                raise ValueError(
                    f"the gradients of closure: {self._label(i)} must have shape {param.shape}, got {np.shape(grad)}"
                )
        for grad, to in zip(grads, gradients, strict=True):
            to[...] = grad
        return loss

    def _check_params(self) -> None:
        for i, param in enumerate(self.params):
            label = f"params{self._label(i)}"
            _arrays.check_floats(param, label, float16=True)
            _arrays.check_writeable(param, label)

    def _label(self, i: int) -> str:
        return f"[{(self._names or range(len(self.params)))[i]!r}]"

    def _settings(self) -> Settings:
        most = _checks.integer_from(self.max_iter, 1, "max_iter")
        calls = most * 5 // 4 if self.max_eval is None else self.max_eval
        return Settings(
            most,
            _checks.integer_from(calls, 1, "max_eval"),
            _checks.not_negative(self.tolerance_grad, "tolerance_grad"),
            _checks.not_negative(self.tolerance_change, "tolerance_change"),
            _checks.integer_from(self.history_size, 1, "history_size"),
        )


class _Lines:
    """The loss of the parameters along lines, from one point of which each begins."""

    def __init__(
        self,
        call: Callable[[list[NDArray[np.float64]]], Any],
        params: list[NDArray[Any]],
        curvature: Curvature,
    ) -> None:
        self._call, self._params, self._vector = call, params, curvature.vector
        self._begin, self._line, self._trial = (curvature.vector() for _ in range(3))
        self._parts_of_trial = self._parts(self._trial)
        self.losses: list[Any] = []
        for param, part in zip(params, self._parts(self._begin), strict=True):
            part[...] = param
        # Losses are seldom summed in less than float32.
        narrow = any(param.dtype.itemsize < np.dtype(np.float64).itemsize for param in params)
        self._resolution = float(np.finfo(np.float32 if narrow else np.float64).eps)

    def minimize(self, curvature: Curvature, settings: Settings) -> str:
        """Iterate, leave the parameters at the lowest point, and say why it ends."""
        here, message = self._at(0.0), ""
        for _ in range(settings.max_iter):
            message = self._reason_to_stop(here, settings)
            if message:
                break
            curvature.direction(here.gradient, out=self._line)
            slope = dot(here.gradient, self._line)
            if not slope < 0:  # by rounding
                curvature.forget()
                continue
            start, step = here._replace(step=0.0, slope=slope), 1.0
            if not curvature:
                step = min(1.0, 1 / sqrt(-slope))
            resolution = self._resolution * abs(here.loss)
            found, measurable = strong_wolfe(self._at, start, step, resolution)
            if found is start and measurable and curvature:
                curvature.forget()
                continue
            self._line *= found.step
            self._begin += self._line
            if found.slope > CURVATURE * slope:
                along = found.step * (found.slope - slope)
                curvature.add(self._line, here.gradient, found.gradient, along)
            sank, largest = here.loss - found.loss, max(abs(here.loss), abs(found.loss), 1.0)
            here = found
            if not measurable or sank <= settings.tolerance_change * largest:
                message = "the loss changes by less than tolerance_change"
                break
        self._write(self._parts(self._begin))
        return message or "max_iter was reached"

    def _reason_to_stop(self, here: Point, settings: Settings) -> str:
        largest = max(here.gradient.max(), -here.gradient.min())
        if not (isfinite(here.loss) and isfinite(largest)):
            return "the loss or its gradient is not finite"
        if largest <= settings.tolerance_grad:
            return "no element of the gradient is larger than tolerance_grad"
        return "max_eval was reached" if len(self.losses) > settings.max_eval else ""

    def _at(self, step: float) -> Point:
        np.multiply(self._line, step, out=self._trial)
        self._trial += self._begin
        self._write(self._parts_of_trial)
        gradient = self._vector()
        loss = self._call(self._parts(gradient))
        self.losses.append(loss)
        return Point(step, float(loss), dot(gradient, self._line), gradient)

    def _write(self, parts: list[NDArray[np.float64]]) -> None:
        with np.errstate(over="ignore"):
            for param, part in zip(self._params, parts, strict=True):
                param[...] = part

    def _parts(self, vector: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The elements of each parameter, in its shape."""
        flat, end, parts = vector.reshape(-1), 0, []
        for param in self._params:
            begin, end = end, end + param.size
            parts.append(flat[begin:end].reshape(param.shape))
        return parts
