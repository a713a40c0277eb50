"""NNRegressor: a network behind the methods of scikit-learn's regressors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array

from nnfast import _checks
from nnfast._dask import is_dask_data
from nnfast._seeds import Rng
from nnfast._sklearn import lazy_on_dask, lazy_score
from nnfast.estimators.estimator import ROWS, Array, NNEstimator, Piece, outputs
from nnfast.estimators.perceptron import HowToMakeLayers, MakesLayer
from nnfast.estimators.training import (
    HowToOptimize,
    HowToSchedule,
    HowToShuffle,
    Loss,
    is_in_memory,
)
from nnfast.init import Initialiser
from nnfast.losses import huber_loss, l1_loss, mse_loss

_LOSSES: dict[str, Loss] = {"mse": mse_loss, "l1": l1_loss, "huber": huber_loss}


def _columns(y: Array, dtype: Any) -> Array:
    """y in the dtype of the network, with an axis of outputs."""
    return y.reshape(len(y), -1).astype(dtype)


def _checked(dtype: Any, y: Any) -> Array:
    """A chunk of a y that was not checked yet."""
    return _columns(check_array(y, ensure_2d=False, dtype="numeric", input_name="y"), dtype)


class NNRegressor(RegressorMixin, NNEstimator):
    """A network that predicts numbers, one or several for each sample, trained by a mean over samples and outputs.

    Like scikit-learn's MLPRegressor; X and y want to be standardised as for that:
    ``TransformedTargetRegressor(net, transformer=StandardScaler())`` does y.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of ints, default (100,)
        () is linear regression.
    activation : str or function, default "relu"
    loss : "mse", "l1" or "huber", default "mse"
        nf.mse_loss, nf.l1_loss, or nf.huber_loss with its delta of 1. (MLPRegressor's is half of "mse".)
    batch_norm, dropout, init, optimizer, learning_rate_init, schedule, weight_decay
        As of NNClassifier.
    batch_size, max_iter, shuffle, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start
        As of NNClassifier; the validation score is R², and its share is not stratified.
    random_state, verbose, share_blas_threads, layers, learning_rate
        As of NNClassifier.

    Attributes
    ----------
    net_, history_, n_iter_, loss_, best_validation_score_, n_outputs_, n_features_in_, feature_names_in_
        As of NNClassifier; losses are in units of y, of its square with "mse".

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As NNClassifier.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        From fit, as NNClassifier, and where ten epochs or more end at R² below 0 on what was learned from.

    References
    ----------
    Pedregosa et al., "Scikit-learn: machine learning in Python", 2011, for the names.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> y = np.sin(2 * x[:, 0])
    >>> net = nf.estimators.NNRegressor((32, 32), learning_rate_init=0.01, random_state=0)
    >>> net.fit(x, y).score(x, y) > 0.99
    True
    >>> net.predict([[0.0], [1.0]]).shape
    (2,)
    """

    loss: str
    _one_axis: bool  # whether y had no second
    _y_axes = 2

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | MakesLayer = "relu",
        *,
        loss: Literal["mse", "l1", "huber"] = "mse",
        batch_norm: bool = False,
        dropout: float = 0.0,
        init: str | Initialiser = "auto",
        optimizer: HowToOptimize = "adam",
        learning_rate_init: float | None = None,
        schedule: HowToSchedule = None,
        weight_decay: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 200,
        shuffle: HowToShuffle = True,
        tol: float = 1e-4,
        n_iter_no_change: int | float = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Rng = None,
        verbose: bool = False,
        share_blas_threads: bool = False,
        layers: HowToMakeLayers = None,
        learning_rate: Literal["constant", "adaptive"] = "constant",
    ) -> None:
        self._take(locals())

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """An epoch over X and y, with the network and optimizer of the calls before: k calls are k epochs of fit.

        Settings other than batch_size and shuffle are those of the first call, or of fit.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array_like, shape (n_samples,), optional
            As of fit.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            As fit; with early_stopping. If the loss becomes NaN or infinite the weights are lost.

        Examples
        --------
        >>> import nnfast as nf
        >>> nf.estimators.NNRegressor(random_state=0).partial_fit([[0.0], [1.0]], [0.0, 2.0]).n_iter_
        1
        """
        return self._partial_fit(X, y, Piece(), sample_weight)

    @lazy_on_dask
    def predict(self, X: ArrayLike) -> Array:
        """y of each sample.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of float32 or float64, shape (n_samples,) or (n_samples, n_outputs), as it was learned from
        """
        z = self._outputs(X)
        return z[:, 0] if self._one_axis else z

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """The coefficient of determination R² of the predictions, the mean over outputs.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array_like, shape (n_samples,), optional
            The weight of each sample. Not for Dask arrays.

        Returns
        -------
        score : float or Dask array
            Where X is Dask's, a lazy array without axes.
        """
        if is_dask_data(X):
            return lazy_score(self, X, y, sample_weight, "r2")
        return super().score(X, y, sample_weight)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _checks.one_of(self.loss, _LOSSES, "loss")

    def _read(
        self, X: ArrayLike, y: Any, *, first: bool, piece: Piece | None = None
    ) -> tuple[Array, Array]:
        x, y = self._validated(X, y, first=first, y_numeric=True)
        count = y.shape[1] if len(y.shape) > 1 else 1
        if first:
            self._one_axis, self.n_outputs_ = len(y.shape) == 1, count
        elif count != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs, as before, got {count}")
        if isinstance(y, np.ndarray):
            return x, _columns(y, x.dtype)
        y.write(partial(_checked, x.dtype), (count,), x.dtype)
        return x, y

    def _loss(self, targets: Array) -> Loss:
        return _LOSSES[self.loss]

    def _stratified_by(self, targets: Array) -> Array | None:
        return None

    def _hint(self, x: Array, targets: Array) -> str:
        """For an R² below 0 on what was learned from: a constant would have done better."""
        if not is_in_memory(x):
            return ""
        z, y = outputs(self.net_, x[:ROWS]), targets[:ROWS]
        score = float(r2_score(y, z)) if len(y) > 1 and np.isfinite(z).all() else 0.0
        if score > -1e-3:  # below 0 by more than rounding
            return ""
        mean, std = float(np.abs(y.mean(axis=0)).max()), float(y.std())
        if mean > 3 * std or not 1e-2 < std < 1e2:
            advice = (
                f"y has a mean of {mean:.3g} and a standard deviation of {std:.3g}: standardise it, as "
                "TransformedTargetRegressor(net, transformer=StandardScaler()) does"
            )
        elif self.loss == "mse":  # the others do not aim at R²
            advice = "try another learning_rate_init, or more epochs (max_iter, n_iter_no_change)"
        else:
            return ""
        return f"the training stopped at R² = {score:.2g} on its own data, below that of a constant: {advice}"

    def _validation_score(self, z: Array, targets: Array, weights: Array | None = None) -> float:
        if not np.isfinite(z).all() or (weights is not None and not weights.any()):
            return float("nan")
        return float(r2_score(targets, z, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
