"""Averages of parameters during training, of checkpoints after it, and of the predictions of an ensemble.

Parameters are float16, float32 or float64 arrays in a list or a dict. An average is made for arrays of their shapes,
updated by ``update(params)`` whenever the training loop likes, and tried out in place: inside ``with
average.applied(params):`` the arrays hold the average, afterwards what they held before, to the bit. It is saved and
restored as an optimizer's state is: state_dict, load_state_dict, save, load. ``applied`` and ``copy_to`` write to the
network's own arrays, ``net.named_params()``; a state_dict, which holds copies, is refused.

Where layers are batch-normalized, averaged weights need statistics of their own: BatchNormRecomputer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _array_lists, _arrays, _checks, _docs, _npz
from nnfast._array_lists import Arrays
from nnfast._batch_norm_recomputer import BatchNormRecomputer
from nnfast._generators import is_text
from nnfast._state import (
    Copies,
    Resumable,
    by_name,
    count_in,
    kept_dtype,
    refuse_copies,
    share_in,
)
from nnfast.optim import SGD
from nnfast.softmax import log_softmax

__all__ = ["EMA", "SWA", "BatchNormRecomputer", "mean_of_checkpoints", "mean_of_predictions"]


# ---- averages of parameters ----


class _Average(Resumable):
    """The base of averages of parameters: shapes and dtypes, the number of updates, and access to the average."""

    _kind = "average"
    update_count: int

    def __init__(self, params: Arrays, name: str = "params") -> None:
        params = _without_text(params)
        self._name, self._names = name, _array_lists.names_of(params)
        arrays = _array_lists.values(params, name)
        for i, array in enumerate(arrays):
            _arrays.check_floats(array, self._label(name, i), float16=True)
        self._forms = [(array.shape, array.dtype) for array in arrays]
        self.update_count = 0

    def __repr__(self) -> str:
        count = sum(prod(shape) for shape, _ in self._forms)
        decay = f", decay={self.decay!r}" if hasattr(self, "decay") else ""
        return (
            f"{type(self).__name__}({len(self._forms)} arrays of {count:,} parameters{decay}, "
            f"update_count={self.update_count})"
        )

    def averages(self) -> Any:
        """The averages, as new arrays in the form that params were given in.

        Returns
        -------
        averages : list or dict of ndarrays
            Of the parameters' dtypes, but float32 for float16 and bfloat16.

        Raises
        ------
        ValueError
            If there was no update yet.
        """
        self._check_updated()
        return self._results(widened=True)

    def copy_to(self, params: Arrays) -> None:
        """Write the averages into arrays, for good: at the end of a training that is to leave them.

        Parameters
        ----------
        params : sequence or mapping of ndarrays
            As they were given at first. float16 arrays take the averages rounded.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If there was no update yet, an array has another shape or is read-only, or params is a state_dict, whose
            arrays are copies. Nothing is written then.
        """
        for i, array in enumerate(self._to_write(params)):
            self._write(i, array)

    @contextmanager
    def applied(self, params: Arrays) -> Iterator[None]:
        """Let arrays hold the averages inside a with-block, and afterwards what they held before, to the bit.

        What the block itself writes to them is lost. If it raises, they are restored all the same.

        Parameters
        ----------
        params : sequence or mapping of ndarrays
            As they were given at first. float16 arrays take the averages rounded.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If there was no update yet, an array has another shape or is read-only, or params is a state_dict, whose
            arrays are copies. Nothing is written then.
        """
        arrays = self._to_write(params)
        before = [array.copy() for array in arrays]
        try:
            self.copy_to(params)
            yield
        finally:
            for array, old in zip(arrays, before, strict=True):
                array[...] = old

    # ---- what an average says of itself ----

    def _write(self, i: int, out: NDArray[Any]) -> None:
        """Write the average of parameter i into an array of any floating dtype."""
        raise NotImplementedError

    # ---- arrays ----

    def _results(self, *, widened: bool) -> Any:
        """New arrays with the averages, those of float16 and bfloat16 parameters as float32 if `widened`."""
        made = []
        for i, (shape, dtype) in enumerate(self._forms):
            made.append(np.empty(shape, _arrays.parameter_dtype(dtype) if widened else dtype))
            self._write(i, made[i])
        return made if self._names is None else dict(zip(self._names, made, strict=True))

    def _checked(self, params: Arrays, name: str = "params") -> list[NDArray[Any]]:
        """The arrays in order, checked against the shapes and dtypes that the average was made for."""
        arrays = _array_lists.values_like(_without_text(params), self._names, name, self._name)
        if len(arrays) != len(self._forms):
            raise ValueError(f"{name} must have {len(self._forms)} arrays, got {len(arrays)}")
        for i, (array, (shape, dtype)) in enumerate(zip(arrays, self._forms, strict=True)):
            label = self._label(name, i)
            _arrays.check_floats(array, label, float16=True)
            if array.dtype != dtype:
                advice = _arrays.source_of_float64(array, dtype)
                raise TypeError(f"{label} must have dtype {dtype}, got {array.dtype}{advice}")
            if array.shape != shape:
                raise ValueError(f"{label} must have shape {shape}, got {array.shape}")
        return arrays

    def _to_write(self, params: Arrays) -> list[NDArray[Any]]:
        self._check_updated()
        refuse_copies(params, "params")
        arrays = self._checked(params)
        for i, array in enumerate(arrays):
            _arrays.check_writeable(array, self._label("params", i))
        return arrays

    def _label(self, name: str, i: int) -> str:
        return f"{name}[{self._names[i] if self._names else i!r}]"

    def _check_updated(self) -> None:
        if self.update_count == 0:
            raise ValueError("there is no average before the first update")


def _without_text(params: Arrays) -> Arrays:
    """The arrays of a network's state_dict without the states of its generators, which have no average."""
    if not isinstance(params, Copies):
        return params
    return {
        name: array
        for name, array in params.items()
        if not (is_text(array) and name.endswith("rng"))
    }


class EMA(_Average):
    """The running average of parameters: ``average = decay average + (1 - decay) params``.

    nnfast.optim's ``ema_decay=`` does the same inside the optimizer's pass, so that parameters are read once. This one
    is for any training loop: for updates that are no optimizer's, or averages that are not of every step.

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float16, float32 or float64
        What arrays are to come; without bias correction also what the average begins with. They are not kept.
    decay : float in [0, 1), default 0.999
        About 1 / (1 - decay) updates are remembered. ``ema.decay`` may be changed before every update.
    bias_correction : bool, default True
        Whether the weights of the parameters so far are scaled to a sum of 1, so that the first average is the first
        parameters, or the rest of that sum is the weight of what the average began with.

    Attributes
    ----------
    update_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats, or decay not a number.
    ValueError
        If decay is out of range.

    Notes
    -----
    Kept in the parameters' dtype, float32 for float16 and bfloat16, and corrected already:
    ``average += share (params - average)`` with ``share = (1 - decay) / (1 - decay^t)``. So the average of parameters
    that stay the same is these, to the bit. As in the optimizers, subnormal numbers count as zero.

    References
    ----------
    Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the correction: Kingma, Ba, "Adam:
    a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.zeros(2)
    >>> ema = nf.averaging.EMA([w], decay=0.5)
    >>> for step in range(3):
    ...     w += 1
    ...     ema.update([w])
    >>> ema.averages()
    [array([2.42857143, 2.42857143])]
    >>> with ema.applied([w]):
    ...     print(w.round(2))
    [2.43 2.43]
    >>> w
    array([3., 3.])
    """

    def __init__(
        self, params: Arrays, decay: float = 0.999, *, bias_correction: bool = True
    ) -> None:
        super().__init__(params)
        self.decay = _checks.unit_interval(decay, "decay")
        start = self._checked(params)
        self._ema = [np.zeros_like(array, kept_dtype(array), subok=False) for array in start]
        # The weight of the parameters so far: accumulated, as 1 - decay**t would cancel for small t.
        self._weight = 0.0
        if not bias_correction:
            self._weight = 1.0
            for average, array in zip(self._ema, start, strict=True):
                average[...] = array
        # average += share (params - average) is a step of gradient ascent along the parameters with an L2 penalty of
        # strength 1 and a rate of share: one pass of all threads over all arrays, with nothing in between.
        self._ascent = SGD(self._ema, weight_decay=1.0, maximize=True)

    def update(self, params: Arrays) -> None:
        """Update the average with the parameters.

        Parameters
        ----------
        params : sequence or mapping of ndarrays
            As they were given at first: the same arrays or others of their shapes and dtypes. Only read.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If counts, names or shapes differ, or decay is out of range. Nothing is changed then.
        """
        arrays = self._checked(params)
        decay = _checks.unit_interval(self.decay, "decay")
        weight = decay * self._weight + (1 - decay)
        self._ascent.lr = (1 - decay) / weight
        self._ascent.step([array.astype(kept_dtype(array), copy=False) for array in arrays])
        self._weight = weight
        self.update_count += 1

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        # In what joblib wrote of version 0.1 these are two lists of arrays.
        self._ascent.params = list(self._ema)

    def _write(self, i: int, out: NDArray[Any]) -> None:
        np.copyto(out, self._ema[i], casting="same_kind")

    def _state_arrays(self) -> dict[str, NDArray[Any]]:
        return by_name({"ema": self._ema}, self._names)

    def _scalars(self) -> dict[str, NDArray[Any]]:
        return {"update_count": np.array(self.update_count), "weight": np.array(self._weight)}

    def _check_scalars(self, given: dict[str, Any]) -> None:
        count_in(given["update_count"], "update_count")
        share_in(given["weight"], "weight")

    def _take_scalars(self, given: dict[str, Any]) -> None:
        self.update_count, self._weight = given["update_count"], given["weight"]

    def _saved_settings(self) -> dict[str, Any]:
        return {"decay": _checks.unit_interval(self.decay, "decay")}

    def _checked_settings(self, given: dict[str, Any]) -> Any:
        if given.keys() != {"decay"}:
            raise ValueError(f"state['settings'] must have decay, got {', '.join(given)}")
        return _checks.unit_interval(given["decay"], "state['settings']['decay']")

    def _take_settings(self, checked: Any) -> None:
        self.decay = checked


class _Sums(_Average):
    """Averages from sums in float64, rounded once."""

    def __init__(self, params: Arrays, name: str = "params") -> None:
        super().__init__(params, name)
        self._totals = [np.zeros(shape) for shape, _ in self._forms]

    def _add(self, params: Arrays, name: str) -> None:
        for total, array in zip(self._totals, self._checked(params, name), strict=True):
            np.add(total, array, out=total)
        self.update_count += 1

    def _write(self, i: int, out: NDArray[Any]) -> None:
        np.divide(self._totals[i], self.update_count, out=out, casting="same_kind")

    def _state_arrays(self) -> dict[str, NDArray[Any]]:
        return by_name({"total": self._totals}, self._names)

    def _scalars(self) -> dict[str, NDArray[Any]]:
        return {"update_count": np.array(self.update_count)}

    def _check_scalars(self, given: dict[str, Any]) -> None:
        count_in(given["update_count"], "update_count")

    def _take_scalars(self, given: dict[str, Any]) -> None:
        self.update_count = given["update_count"]


class SWA(_Sums):
    """The average of parameters with equal weights: of the ends of a training's last epochs, or cycles.

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float16, float32 or float64
        What arrays are to come. They are not kept, nor counted.

    Attributes
    ----------
    update_count : int

    Raises
    ------
    TypeError
        If a parameter is not an array of floats.

    Notes
    -----
    Kept as sums in float64, which are exact for float32 and float16 unless numbers of very different size meet: the
    average is the true one, rounded once, after any number of updates in any order. Running means in float32 lose
    digits with every update, and what float64 costs, eight bytes a parameter, is needed once, not every step.

    References
    ----------
    Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.zeros(2)
    >>> swa = nf.averaging.SWA({"w": w})
    >>> for epoch in range(4):
    ...     w += 1
    ...     swa.update({"w": w})
    >>> swa.averages()
    {'w': array([2.5, 2.5])}
    >>> swa.copy_to({"w": w})
    >>> w
    array([2.5, 2.5])
    """

    def __init__(self, params: Arrays) -> None:
        super().__init__(params)

    def update(self, params: Arrays) -> None:
        """Update the average with the parameters.

        Parameters
        ----------
        params : sequence or mapping of ndarrays
            As they were given at first: the same arrays or others of their shapes and dtypes. Only read.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If counts, names or shapes differ. Nothing is changed then.
        """
        self._add(params, "params")


# ---- averages of checkpoints and predictions ----

Checkpoint = _npz.File | Arrays


def mean_of_checkpoints(checkpoints: Iterable[Checkpoint]) -> Any:
    """The mean of the parameters of several checkpoints.

    Parameters
    ----------
    checkpoints : iterable of path-likes, binary files, sequences of ndarrays or mappings of ndarrays
        ``.npz`` files, read without pickle one at a time, or arrays of float16, float32 or float64; all with the
        same names, shapes and dtypes. A generator may make them one at a time.

    Returns
    -------
    mean : list or dict of ndarrays
        As the checkpoints are, of their dtypes, without the states of generators. Added up in float64, which one copy
        of all parameters takes, and rounded once.

    Raises
    ------
    OSError
        If a file cannot be read.
    TypeError
        If a checkpoint is something else, or an array of it has another dtype.
    ValueError
        If there is no checkpoint, a file is no ``.npz`` or holds pickled objects, or names or shapes differ.

    References
    ----------
    Junczys-Dowmunt, Dwojak, Sennrich, "The AMU-UEDIN submission to the WMT16 news translation task", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.averaging.mean_of_checkpoints([{"w": np.array([1.0, 2.0])}, {"w": np.array([3.0, 6.0])}])
    {'w': array([2., 4.])}
    """
    sums: _Sums | None = None
    for checkpoint in _iterator(checkpoints, "checkpoints"):
        name = f"checkpoints[{sums.update_count if sums else 0}]"
        arrays = _opened(checkpoint, name)
        sums = sums or _Sums(arrays, name)
        sums._add(arrays, name)
        del checkpoint, arrays  # the next one is made before these names are taken again
    if sums is None:
        raise ValueError("checkpoints must not be empty")
    return sums._results(widened=False)


def _opened(checkpoint: Checkpoint, name: str) -> Arrays:
    """The arrays of a checkpoint."""
    if not isinstance(checkpoint, str | os.PathLike) and not hasattr(checkpoint, "read"):
        return _without_text(checkpoint)
    try:
        return _without_text(Copies(_npz.load(cast(_npz.File, checkpoint))))
    except ValueError as error:
        raise ValueError(f"{name} must be an .npz file of arrays: {error}") from error


Kind = Literal["probabilities", "log"]


def mean_of_predictions(
    predictions: Iterable[ArrayLike],
    weights: Sequence[float] | NDArray[Any] | None = None,
    *,
    kind: Kind = "probabilities",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """What an ensemble predicts: the mean of its members' predictions.

    Parameters
    ----------
    predictions : iterable of array_like of float16, float32 or float64
        Of equal shapes and dtypes, such as (N, classes), one for each member. A generator may make them one at a time;
        an array of shape (members, N, classes) is one too.
    weights : sequence of floats, optional
        One for each member, not negative; only their ratios matter. A member of weight 0 takes no part.
    kind : "probabilities" or "log", default "probabilities"
        "probabilities": ``Σ weight p / Σ weight``, of probabilities or any other numbers. "log": of log-probabilities
        (or logits), with the log-probabilities of the normalized geometric mean for a result,
        ``log_softmax(Σ weight log p / Σ weight)``. There a class that one member excludes is excluded.
    axis : int, default -1
        The axis of the classes, for "log".
    out : ndarray of the predictions' dtype and shape, optional
        Takes the result. May be one of the predictions.

    Returns
    -------
    mean : ndarray of the predictions' dtype and shape
        Added up in float64, rounded once. With "log", rows in which every class is excluded are NaN.

    Raises
    ------
    TypeError
        If a prediction is not of real numbers, a dtype differs from the first's, or out has another one.
    ValueError
        If there is no prediction, a shape differs, weights are negative, not finite, all 0 or not as many as the
        predictions, kind is unknown, axis is none of the predictions', or out has another shape or is read-only.
        Nothing is written then.

    References
    ----------
    Hansen, Salamon, "Neural network ensembles", 1990; the geometric mean: Hinton, "Training products of experts by
    minimizing contrastive divergence", 2002.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x, nets = np.eye(2), [np.array([[4.0, 0.0], [1.0, 3.0]]), np.array([[2.0, 0.0], [5.0, 3.0]])]
    >>> nf.averaging.mean_of_predictions(nf.softmax(x @ w) for w in nets).round(2)
    array([[0.93, 0.07],
           [0.5 , 0.5 ]])
    >>> log_p = nf.averaging.mean_of_predictions((x @ w for w in nets), [3, 1], kind="log")
    >>> np.exp(log_p).round(2)
    array([[0.97, 0.03],
           [0.27, 0.73]])
    """
    if kind not in ("probabilities", "log"):
        raise ValueError(f'kind must be "probabilities" or "log", got {kind!r}')
    shares = None if weights is None else _weights(weights)
    mean, dtype = _mean(_iterator(predictions, "predictions"), shares)
    if kind == "log":
        mean = log_softmax(mean, axis=_arrays.axis_of(axis, mean, "predictions[0]"))
    result = _arrays.output(out, mean.shape, dtype)
    np.copyto(result, mean, casting="same_kind")
    return result


def _mean(
    predictions: Iterator[ArrayLike], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], np.dtype[Any]]:
    """The weighted mean in float64, and the dtype of the predictions."""
    total: NDArray[np.float64] | None = None
    count = 0
    for prediction in predictions:
        array = _arrays.floating(prediction, f"predictions[{count}]", float16=True)
        if total is None:
            total, product, dtype = np.zeros(array.shape), np.empty(array.shape), array.dtype
        if array.dtype != dtype:
            advice = _arrays.source_of_float64(array, dtype)
            raise TypeError(
                f"predictions[{count}] must have dtype {dtype}, got {array.dtype}{advice}"
            )
        if array.shape != total.shape:
            raise ValueError(
                f"predictions[{count}] must have shape {total.shape}, got {array.shape}"
            )
        if weights is None:
            np.add(total, array, out=total)
        elif count == len(weights):
            raise ValueError(f"weights must be one for each prediction, got only {count}")
        elif weights[count]:
            total += np.multiply(array, weights[count], out=product)
        count += 1
        del prediction, array  # the next one is made before these names are taken again
    if total is None:
        raise ValueError("predictions must not be empty")
    if weights is not None and len(weights) != count:
        raise ValueError(f"weights must be one for each of {count} predictions, got {len(weights)}")
    return total / (count if weights is None else weights.sum()), dtype


def _weights(weights: ArrayLike) -> NDArray[np.float64]:
    array = _arrays.floating(weights, "weights").astype(np.float64)
    if array.ndim != 1:
        raise ValueError(f"weights must be one number for each prediction, got shape {array.shape}")
    if not ((array >= 0).all() and 0 < array.sum() < np.inf):
        raise ValueError(f"weights must not be negative, infinite or all 0, got {weights!r}")
    return array


def _iterator(value: Any, name: str) -> Iterator[Any]:
    """An iterator over an iterable other than a string or a mapping."""
    try:
        if isinstance(value, str | Mapping):
            raise TypeError
        return iter(value)
    except TypeError:
        got = type(value).__name__
        raise TypeError(f"{name} must be a sequence or another iterable, got {got}") from None


_docs.finish(__name__, {})
