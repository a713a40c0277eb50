"""L-BFGS, by SciPy's minimizer: whole batches, and a function that computes the loss as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _array_lists, _arrays, _checks
from nnfast._array_lists import Arrays
from nnfast._state import refuse_copies

__all__ = ["LBFGS"]

Closure = Callable[[], tuple[Any, Arrays]]


class LBFGS:
    """L-BFGS by SciPy's minimizer, for the loss of a whole batch: steps by curvature, each with a line search.

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
        Why the last step ended, in SciPy's words.

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or a setting is not a number.
    ValueError
        If a number is out of range or an array is read-only.
    ImportError
        If there is no SciPy.

    See Also
    --------
    Adam : For batches, whose noise a line search does not bear.

    Notes
    -----
    The arguments are PyTorch's ``torch.optim.LBFGS``, without lr and line_search_fn: SciPy always searches along the
    line, by the strong Wolfe conditions. All parameters are one float64 vector there, and are rounded to their dtypes
    before each call of the closure. The estimate of the curvature begins anew at each step, so that few long steps are
    better than many short ones. There is no other state to save.

    References
    ----------
    Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989; Zhu, Byrd, Lu, Nocedal,
    "Algorithm 778: L-BFGS-B", 1997.

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
        _minimize()
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
        minimize, options = _minimize(), self._settings()
        losses: list[Any] = []
        before = [param.copy() for param in self.params]
        start = np.concatenate(
            [np.ravel(p).astype(np.float64) for p in self.params] or [np.empty(0)]
        )

        def of_vector(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            self._write(vector)
            loss, grads = self._checked(closure())
            losses.append(loss)
            return float(loss), grads

        try:
            if start.size == 0:
                return self._checked(closure())[0]
            found = minimize(of_vector, start, method="L-BFGS-B", jac=True, options=options)
            self._write(found.x)
        except BaseException:
            for param, old in zip(self.params, before, strict=True):
                param[...] = old
            raise
        self.step_count += 1
        self.message = str(found.message)
        return losses[0]

    def _write(self, vector: NDArray[np.float64]) -> None:
        begin = 0
        for param in self.params:
            with np.errstate(over="ignore"):
                param[...] = vector[begin : begin + param.size].reshape(param.shape)
            begin += param.size

    def _checked(self, returned: Any) -> tuple[Any, NDArray[np.float64]]:
        """The loss, and the gradients as one vector."""
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
        flat = [np.ravel(np.asarray(grad)).astype(np.float64) for grad in grads]
        return loss, np.concatenate(flat or [np.empty(0)])

    def _check_params(self) -> None:
        for i, param in enumerate(self.params):
            label = f"params{self._label(i)}"
            _arrays.check_floats(param, label, float16=True)
            _arrays.check_writeable(param, label)

    def _label(self, i: int) -> str:
        return f"[{(self._names or range(len(self.params)))[i]!r}]"

    def _settings(self) -> Mapping[str, Any]:
        """The settings as SciPy has them."""
        most = _checks.integer_from(self.max_iter, 1, "max_iter")
        calls = most * 5 // 4 if self.max_eval is None else self.max_eval
        return {
            "maxiter": most,
            "maxfun": _checks.integer_from(calls, 1, "max_eval"),
            "gtol": _checks.not_negative(self.tolerance_grad, "tolerance_grad"),
            "ftol": _checks.not_negative(self.tolerance_change, "tolerance_change"),
            "maxcor": _checks.integer_from(self.history_size, 1, "history_size"),
        }


def _minimize() -> Any:
    try:
        from scipy.optimize import minimize  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("nnfast.optim.LBFGS needs SciPy: pip install scipy") from error
    return minimize
