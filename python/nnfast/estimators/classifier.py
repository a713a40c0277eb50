"""NNClassifier: a network behind the methods of scikit-learn's classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from nnfast import _checks
from nnfast._dask import is_dask_data
from nnfast._seeds import Rng
from nnfast._sklearn import lazy_on_dask, lazy_score, on_dask
from nnfast.activations import logsigmoid, sigmoid
from nnfast.estimators.estimator import Array, NNEstimator, Piece
from nnfast.estimators.perceptron import HowToMakeLayers, MakesLayer
from nnfast.estimators.training import HowToOptimize, HowToSchedule, HowToShuffle, Loss
from nnfast.init import Initialiser
from nnfast.losses import binary_cross_entropy_with_logits, softmax_cross_entropy
from nnfast.softmax import log_softmax, softmax


class NNClassifier(ClassifierMixin, NNEstimator):
    """A network that classifies, trained by softmax cross-entropy.

    Like scikit-learn's MLPClassifier; X should be standardised, as for that, and may be sparse. Samples may have many
    labels: y is then an array (n_samples, n_labels) of 0 and 1, and the loss binary cross-entropy.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of ints, default (100,)
        Units of each hidden layer; () is a linear classifier. A layer is Dense, BatchNorm, activation, Dropout.
    activation : str or function, default "relu"
        That of a function of nnfast by its name ("gelu", "leaky_relu", "swiglu", "maxout", ...), "identity" or
        "logistic"; or a function that makes a layer, as ``functools.partial(nf.nn.ELU, alpha=0.5)`` does. Before the
        gates and maxout, of two pieces, a layer has twice the units.
    batch_norm : bool, default False
        Whether hidden layers have BatchNorm, and no bias then.
    dropout : float in [0, 1], default 0
        Probability of dropping a hidden unit.
    init : str or function, default "auto"
        First weights, as of nf.nn.Dense. "auto" is "zeros" in the last layer, so that the first loss is
        ``log(n_classes)``, "xavier" before activations that saturate on both sides or on none, "lecun" before "selu",
        else "he".
    optimizer : str or function, default "adam"
        A class of nf.optim by its name in small letters, "momentum" or "nesterov" (SGD with momentum 0.9); or a
        function of the parameters, such as these classes or ``functools.partial(nf.optim.Adam, amsgrad=True)``. It gets
        them in two groups, of which the second does not decay.
    learning_rate_init : float or None, default None
        The learning rate; named schedules fall from it, "onecycle" climbs to it first. None is the optimizer's own,
        1e-3 of Adam.
    schedule : str, function, ReduceOnPlateau or None, default None
        None: a constant rate. "linear", "cosine" and "onecycle" reach their end, 0 or nearly, with epoch max_iter. An
        nf.schedules.Schedule, another function of the step (of the batch, counted from 0) and an
        nf.schedules.ReduceOnPlateau say the rates themselves: learning_rate_init must be None. A ReduceOnPlateau of
        mode "min" looks at the loss of each epoch, of mode "max" at its validation score; the one given stays as it is.
    weight_decay : float or None, default None
        Of the weights of dense and convolution layers; biases, BatchNorm and what activations learn do not decay. The
        gradient of ½ weight_decay ‖W‖² joins that of the mean loss; with "adamw", "lion", "adan" and "lamb" it is
        decoupled, as nf.optim says. None is 1e-3, or else the 0.01 of AdamW and LAMB and what a function sets.
        MLPClassifier's alpha is divided by the size of the batch: ``alpha=1e-4`` with batches of 200 is
        ``weight_decay=5e-7``.
    label_smoothing : float in [0, 1], default 0
        As of nf.softmax_cross_entropy; of many labels, each wants ``(1 - ε) y + ε / 2``.
    class_weight : dict, "balanced" or None, default None
        What a sample counts in the loss by its class, 1 where the dict does not say; "balanced":
        ``n_samples / (n_classes * count)``. Not with many labels.
    batch_size : int or "auto", default "auto"
        Samples of a step; "auto" is 200, or all if there are fewer. A last batch of a
        single sample is joined to the one before.
    max_iter : int, default 200
        The maximal number of epochs. Reaching it gives no warning.
    shuffle : bool or "partitions", default True
        Whether every epoch has another order. "partitions", for a Dask array that is too large to travel: each worker
        trains on the rows that it has, docs/dask.md says how; an array in memory is one partition.
    tol : float, default 1e-4
        What the loss must fall by, or the validation score rise, to be better than the best.
    n_iter_no_change : int or inf, default 10
        After so many epochs in a row that were no better the training ends, or an adaptive learning rate falls.
    early_stopping : bool, default False
        Whether to hold out a stratified share of the samples and stop by its validation score (accuracy); the weights
        of the best epoch are restored.
    validation_fraction : float in (0, 1), default 0.1
        That share.
    warm_start : bool, default False
        Whether fit begins with the weights of the last fit, which had layers of the same sizes; with a new optimizer.
    random_state : int, numpy.random.RandomState, Generator, BitGenerator, SeedSequence or None, default None
        What weights, validation share, batches and dropout are drawn from. An int or a SeedSequence gives the same
        bits at every fit, for any number of nnfast's threads.
    verbose : bool, default False
        Whether a progress bar shows the numbers of the last epoch.
    share_blas_threads : bool, default False
        Whether NumPy's BLAS runs on nnfast's threads during fit and partial_fit, a setting of the process: see
        nf.share_blas_threads. Where it cannot, it keeps its own, and nothing else changes; the bits are the same.
    layers : sequence of nf.nn.Layer, nf.nn.Sequential, function or None, default None
        The whole network, in place of hidden_layer_sizes, activation, batch_norm, dropout and init. It takes X of
        whatever shape its layers take, as (n_samples, C, H, W), and gives logits, (n_samples, n_outputs_). Every
        fit begins with copies of given layers, whose first weights and dropout follow from what they were made with; a
        function ``layers(rng)`` makes new ones, drawn from random_state. float64 data make it a network of float64.
    learning_rate : "constant" or "adaptive", default "constant"
        "adaptive" divides the rate by 5 after n_iter_no_change epochs in a row that were no better than the best by
        tol, and the training ends where that would be next at a rate of 1e-6 or below. As MLPClassifier's, which waits
        one epoch longer and knows it for "sgd" alone; schedule must be None.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        With many labels their numbers 0, 1, ...
    net_ : nnfast.nn.Sequential
        Gives logits, shape (n_samples, n_outputs_), one for each class also where there are two.
    history_ : dict of lists
        A number for each epoch: "loss", the mean over its batches before their steps, without weight decay, in nats;
        "learning_rate", of its last step; "seconds", of the steps; "validation_score" with early_stopping.
    n_iter_ : int
        Epochs of the last fit and of partial_fit since.
    loss_ : float
        The last of history_["loss"].
    best_validation_score_ : float
        With early_stopping.
    n_outputs_, n_features_in_ : int
        n_features_in_ is the length of X's second axis.
    feature_names_in_ : ndarray of str
        Where X had names.

    Raises
    ------
    TypeError
        From fit, if X is masked, or a setting of a wrong type.
    ValueError
        From fit, if X has NaN or infinities, there is one class alone, a setting is out of range, or the loss becomes
        NaN or infinite.
    sklearn.exceptions.NotFittedError
        From predictions, if nothing was learned yet.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        From fit, where it ends at a loss that is huge, or 1e12 times that of the first epoch.
    UserWarning
        From fit, where shuffle is "partitions" and each partition holds one class alone.

    Notes
    -----
    float32 data are computed with in float32, others in float64. The weights of a random_state begin the same in both,
    but for rounding in those of init="orthogonal". A sparse X meets the first layer by SciPy's products, but the
    gradient and the optimizer's arrays of that layer are as large as its weights. What a network of
    BatchNorm predicts depends on running statistics, of which a training of a few steps has seen little.

    References
    ----------
    Pedregosa et al., "Scikit-learn: machine learning in Python", 2011, for the names; Kingma, Ba, "Adam: a method for
    stochastic optimization", 2014; King, Zeng, "Logistic regression in rare events data", 2001, for balanced weights.

    Examples
    --------
    >>> import nnfast as nf
    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> x = (x - x.mean(axis=0)) / x.std(axis=0)
    >>> net = nf.estimators.NNClassifier((32, 16), "gelu", learning_rate_init=0.01, random_state=0)
    >>> net.fit(x, y).score(x, y) > 0.95
    True
    >>> net.predict_proba(x[:2]).shape, net.predict(x[:2])
    ((2, 3), array([0, 0]))
    >>> net.net_
    Sequential(Dense(4, 32), GELU(approximate='none'), Dense(32, 16), GELU(approximate='none'), Dense(16, 3))

    Images, and the network as layers:

    >>> from sklearn.datasets import load_digits
    >>> digits = load_digits()
    >>> x = digits.images[:, None].astype("f4") / 16
    >>> def layers(rng):
    ...     return [nf.nn.BatchNorm(1), nf.nn.Flatten(), nf.nn.Dense(64, 32, rng=rng), nf.nn.ReLU(),
    ...             nf.nn.Dense(32, 10, rng=rng)]
    >>> net = nf.estimators.NNClassifier(layers=layers, batch_size=32, max_iter=20, random_state=0)
    >>> x.shape, net.fit(x, digits.target).score(x, digits.target) > 0.95
    ((1797, 1, 8, 8), True)
    """

    class_weight: Any
    label_smoothing: float
    classes_: Array
    _encoder: LabelEncoder | None  # None with many labels
    _y_axes = 1

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | MakesLayer = "relu",
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
        init: str | Initialiser = "auto",
        optimizer: HowToOptimize = "adam",
        learning_rate_init: float | None = None,
        schedule: HowToSchedule = None,
        weight_decay: float | None = None,
        label_smoothing: float = 0.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
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
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """An epoch over X and y, with the network and optimizer of the calls before: k calls are k epochs of fit.

        Settings other than batch_size and shuffle are those of the first call, or of fit.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        y : array_like, shape (n_samples,) or (n_samples, n_labels)
        classes : array_like, shape (n_classes,), optional
            All that will come. The first call needs it, but with many labels.
        sample_weight : array_like, shape (n_samples,), optional
            As of fit.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            As fit; if the first call has no classes, y others, or with early_stopping or balanced class weights. If the
            loss becomes NaN or infinite the weights are lost.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> net = nf.estimators.NNClassifier(random_state=0)
        >>> net.partial_fit([[0.0], [1.0]], ["no", "no"], classes=["no", "yes"]).n_iter_
        1
        """
        return self._partial_fit(X, y, Piece(classes), sample_weight)

    @lazy_on_dask
    def predict(self, X: ArrayLike) -> Array:
        """The likeliest class of each sample; with many labels, which of them are likelier than not.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        y : ndarray, shape (n_samples,) or (n_samples, n_labels)
        """
        z = self._outputs(X)
        if self._encoder is None:
            return (z > 0).astype(np.int64)
        y: Array = self.classes_[z.argmax(axis=1)]
        return y

    @lazy_on_dask
    def predict_proba(self, X: ArrayLike) -> Array:
        """The probability of each class, or with many labels of each label.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of float32 or float64, shape (n_samples, n_classes)
        """
        z = self._outputs(X)
        p: Array = sigmoid(z, out=z) if self._encoder is None else softmax(z, out=z)
        return p

    @lazy_on_dask
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Their logarithms, exact also where the probabilities are 0.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of float32 or float64, shape (n_samples, n_classes)
        """
        z = self._outputs(X)
        log_p: Array = logsigmoid(z, out=z) if self._encoder is None else log_softmax(z, out=z)
        return log_p

    @lazy_on_dask
    def decision_function(self, X: ArrayLike) -> Array:
        """The logits; of two classes the difference of theirs, positive for the second.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        z : ndarray of float32 or float64, shape (n_samples, n_classes) or (n_samples,)
        """
        z = self._outputs(X)
        if self._encoder is None or len(self.classes_) > 2:
            return z
        difference: Array = z[:, 1] - z[:, 0]
        return difference

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """The share of samples whose class, or whose labels all, are predicted.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        y : array_like, shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array_like, shape (n_samples,), optional
            The weight of each sample. Not for Dask arrays.

        Returns
        -------
        score : float or Dask array
            Where X is Dask's, a lazy array without axes.
        """
        if is_dask_data(X):
            return lazy_score(self, X, y, sample_weight, "accuracy")
        return super().score(X, y, sample_weight)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _checks.real_in(self.label_smoothing, 0, 1, "label_smoothing")
        given = self.class_weight
        if isinstance(given, Mapping):
            for label, weight in given.items():
                _checks.finite_not_negative(weight, f"class_weight[{label!r}]")
        elif given is not None and not (isinstance(given, str) and given == "balanced"):
            raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {given!r}")

    def _read(
        self, X: ArrayLike, y: Any, *, first: bool, piece: Piece | None = None
    ) -> tuple[Array, Array]:
        x, y = self._validated(X, y, first=first)
        if not isinstance(y, np.ndarray):
            return x, self._read_on_dask(y, first, piece)
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return x, self._read_labels(y, x.dtype, first)
        return x, self._read_classes(column_or_1d(y, warn=True), first, piece)

    def _read_on_dask(self, y: Any, first: bool, piece: Piece | None) -> Any:
        """The classes of a y that stays where it is, and which is written encoded by them."""
        found = on_dask().checked_targets(self, y.classes(), numeric=False)
        check_classification_targets(found)
        self._read_classes(found, first, piece)
        assert self._encoder is not None
        y.write(self._encoder.transform, (), np.int64)
        return y

    def _read_labels(self, y: Array, dtype: Any, first: bool) -> Array:
        targets: Array = np.asarray(y, dtype)
        if first:
            self._encoder = None
            self.classes_ = np.arange(targets.shape[1])
            self.n_outputs_ = targets.shape[1]
        elif self._encoder is not None or targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y must be of classes_, as before, got {targets.shape[1]} labels a sample"
            )
        if self.class_weight is not None:
            raise ValueError("class_weight must be None where samples have many labels")
        smoothing = float(self.label_smoothing)  # NumPy's would promote float32
        return targets * (1 - smoothing) + smoothing / 2

    def _read_classes(self, y: Array, first: bool, piece: Piece | None) -> Array:
        classes = y if piece is None else piece.classes
        if piece is not None and self.class_weight == "balanced":
            raise ValueError("class_weight must not be 'balanced' in partial_fit: give the numbers")
        if first:
            if classes is None:
                raise ValueError("classes must be given in the first call of partial_fit")
            self._encoder = LabelEncoder().fit(classes)
            self.classes_ = self._encoder.classes_
            self.n_outputs_ = len(self.classes_)
            if self.n_outputs_ < 2:
                raise ValueError(f"y must have two classes or more, got 1 class: {self.classes_}")
        elif self._encoder is None:
            raise ValueError("y must have many labels a sample, as before, got one class each")
        elif piece is not None and not (
            classes is None or np.array_equal(np.unique(classes), self.classes_)
        ):
            raise ValueError(f"classes must be those of the first call, {self.classes_}")
        found = np.unique(y)
        if unknown := sorted(set(found.tolist()) - set(self.classes_.tolist()), key=str):
            raise ValueError(f"y must be of classes_, {self.classes_.tolist()}, got {unknown[0]!r}")
        if piece is None and len(found) < self.n_outputs_:
            missing = sorted(set(self.classes_.tolist()) - set(found.tolist()), key=str)
            raise ValueError(
                f"y must have all of classes_, {self.classes_.tolist()}, for warm_start, "
                f"got none of {missing[0]!r}"
            )
        assert self._encoder is not None
        labels: Array = self._encoder.transform(y)
        return labels

    def _loss(self, targets: Array) -> Loss:
        if self._encoder is None:
            return binary_cross_entropy_with_logits
        of_classes = None
        if self.class_weight is not None:
            y = self.classes_[targets]
            self._check_weighted_classes()
            of_classes = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return partial(
            softmax_cross_entropy, label_smoothing=self.label_smoothing, class_weight=of_classes
        )

    def _check_weighted_classes(self) -> None:
        """A ValueError if class_weight has a class that there is not."""
        if isinstance(self.class_weight, Mapping):
            unknown = [c for c in self.class_weight if c not in set(self.classes_.tolist())]
            if unknown:
                raise ValueError(
                    f"class_weight must have classes of y, {self.classes_.tolist()}, got {unknown[0]!r}"
                )

    def _stratified_by(self, targets: Array) -> Array | None:
        # The classes themselves, which errors then name.
        return None if self._encoder is None else self.classes_[targets]

    def _validation_score(self, z: Array, targets: Array, weights: Array | None = None) -> float:
        many = self._encoder is None
        right = ((z > 0) == (targets > 0.5)).all(axis=1) if many else z.argmax(axis=1) == targets
        if weights is not None and not weights.any():
            return float("nan")
        return float(np.average(right, weights=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
