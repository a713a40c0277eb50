"""The base of NNClassifier and NNRegressor: it checks settings, makes the network, trains it and predicts."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nnfast import _arrays, _checks, _seeds, init, nn
from nnfast._dask import is_dask_data
from nnfast._sklearn import DTYPES, on_dask, unchanged_on_error
from nnfast._sparse import is_sparse
from nnfast.blas import share_blas_threads
from nnfast.estimators.perceptron import (
    HowToMakeLayers,
    MakesLayer,
    check_activation,
    check_layers,
    given_network,
    network,
)
from nnfast.estimators.training import (
    Epoch,
    HowToOptimize,
    HowToSchedule,
    HowToShuffle,
    Loss,
    Patience,
    Training,
    WeightedTargets,
    batches,
    check_learning_rate,
    check_optimizer,
    check_schedule,
    check_shuffle,
    is_in_memory,
    optimizer_of,
    progress,
    schedule_of,
    split_weights,
    why_not_finite,
)

Array = NDArray[Any]

# Rows of a batch in prediction; of images, whose layers give larger arrays.
ROWS, IMAGES = 4096, 256
# Settings of the network that layers= is given in place of.
_OF_THE_NETWORK = ("hidden_layer_sizes", "activation", "batch_norm", "dropout", "init")
# A training has diverged where the loss is so many times that of the first epoch, or so large.
_ASTRAY, _HUGE = 1e12, 1e30
# After fewer epochs than these, no advice is given.
_EPOCHS_FOR_A_HINT = 10


_SGD = "pass optimizer='momentum' or 'nesterov', or functools.partial(nf.optim.SGD, momentum=...)"
_ADAM = "pass optimizer=functools.partial(nf.optim.Adam, {}=...)"
# Names of arguments in scikit-learn's MLPClassifier and in PyTorch.
_NAMES_OF_OTHERS = {
    "solver": "pass optimizer=; 'sgd' of scikit-learn is 'nesterov', and there is no 'lbfgs'",
    "alpha": "pass weight_decay=, which is alpha divided by the size of the batch",
    "power_t": "pass schedule=, such as nf.schedules.InverseTime",
    "momentum": _SGD,
    "nesterovs_momentum": _SGD,
    "beta_1": _ADAM.format("betas"),
    "beta_2": _ADAM.format("betas"),
    "epsilon": _ADAM.format("eps"),
    "max_fun": "it belongs to 'lbfgs', which there is not",
    "lr": "pass learning_rate_init=",
    "epochs": "pass max_iter=",
    "rng": "pass random_state=",
}


class Piece(NamedTuple):
    """The arguments of partial_fit besides X and y."""

    classes: Any = None


class NNEstimator(BaseEstimator):
    """A network behind scikit-learn's methods; subclasses define targets, loss and score."""

    hidden_layer_sizes: int | Iterable[int]
    activation: str | MakesLayer
    batch_norm: bool
    dropout: float
    init: str | init.Initialiser
    optimizer: HowToOptimize
    learning_rate_init: float | None
    schedule: HowToSchedule
    weight_decay: float | None
    batch_size: int | str
    max_iter: int
    shuffle: HowToShuffle
    tol: float
    n_iter_no_change: int | float
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    random_state: Any
    verbose: bool
    # Pickles of version 0.1 do not have these.
    share_blas_threads: bool = False
    layers: HowToMakeLayers = None
    learning_rate: str = "constant"
    _row_shape: tuple[int, ...] | None = None
    # As many axes y may have to stay on a cluster.
    _y_axes: ClassVar[int]

    net_: nn.Sequential
    history_: dict[str, list[float]]
    n_iter_: int
    loss_: float
    best_validation_score_: float
    n_features_in_: int
    n_outputs_: int
    _training: Training

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        # Not in __init__, whose parameters scikit-learn reads.
        own = cls._get_param_names()
        for name in settings:
            if name not in own and name in _NAMES_OF_OTHERS:
                raise TypeError(
                    f"{cls.__name__} has no argument {name!r}: {_NAMES_OF_OTHERS[name]}"
                )
        made: Self = super().__new__(cls)
        return made

    def _take(self, arguments: dict[str, Any]) -> None:
        """Set the arguments of __init__, its locals(), as attributes, unchecked as in all of scikit-learn."""
        self.__dict__.update({name: value for name, value in arguments.items() if name != "self"})

    def set_params(self, **params: Any) -> Self:
        """Set parameters by their names, as every estimator of scikit-learn's has it.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        own = self._get_param_names()
        for name in params:
            if name not in own and name in _NAMES_OF_OTHERS:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}: {_NAMES_OF_OTHERS[name]}"
                )
        super().set_params(**params)
        return self

    # ---- what subclasses define ----

    def _read(
        self, X: ArrayLike, y: Any, *, first: bool, piece: Piece | None = None
    ) -> tuple[Array, Array]:
        """X and y as the training takes them; first: whether nothing was learned before."""
        raise NotImplementedError

    def _loss(self, targets: Array) -> Loss:
        """The loss, as Training takes it; targets are those of all samples."""
        raise NotImplementedError

    def _stratified_by(self, targets: Array) -> Array | None:
        """Classes to stratify the validation split by, or None."""
        raise NotImplementedError

    def _validation_score(self, z: Array, targets: Array, weights: Array | None = None) -> float:
        raise NotImplementedError

    def _check_parameters(self) -> None:
        """Check every setting; errors name it."""
        if self.layers is not None:
            self._check_layers()
        self._widths()
        check_activation(self.activation)
        _checks.real_in(self.dropout, 0, 1, "dropout")
        if not callable(self.init):
            _checks.one_of(self.init, ("auto", *init.NAMES), "init")
        check_optimizer(self.optimizer)
        if self.learning_rate_init is not None:
            _checks.finite_not_negative(self.learning_rate_init, "learning_rate_init")
        check_schedule(self.schedule, self.learning_rate_init, self.early_stopping)
        check_learning_rate(self.learning_rate, self.schedule)
        check_shuffle(self.shuffle)
        if self.weight_decay is not None:
            _checks.finite_not_negative(self.weight_decay, "weight_decay")
        if self.batch_size != "auto":
            _checks.integer_from(self.batch_size, 1, "batch_size")
        _checks.integer_from(self.max_iter, 1, "max_iter")
        _checks.finite_not_negative(self.tol, "tol")
        if self.n_iter_no_change != math.inf:
            _checks.integer_from(self.n_iter_no_change, 1, "n_iter_no_change")
        if not 0 < _checks.real(self.validation_fraction, "validation_fraction") < 1:
            raise ValueError(
                f"validation_fraction must be in (0, 1), got {self.validation_fraction!r}"
            )

    def _check_layers(self) -> None:
        check_layers(self.layers)
        defaults = inspect.signature(type(self)).parameters
        for name in _OF_THE_NETWORK:
            given = getattr(self, name)
            if not np.array_equal(given, defaults[name].default):
                raise ValueError(f"{name} must be left out where layers are given, got {given!r}")

    # ---- learning ----

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train a new network, or with ``warm_start=True`` the present one anew.

        Ctrl-C ends the training with a UserWarning, and the network and its history stay as they are then.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
            Should be standardised: ``make_pipeline(StandardScaler(), ...)``. A sparse table, of CSR or converted to it,
            is never made dense. With a Dask array, a data frame of Dask's or a list of delayed pieces, the workers of
            the Dask client in use train, with the batches and, to rounding, the losses of a training in memory:
            docs/dask.md. Predictions and scores for one are lazy.
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
            May be Dask's if X is. A Dask array as long as X stays on the workers, but with early_stopping, class_weight
            or many labels; all else is loaded into memory.
        sample_weight : array_like, shape (n_samples,), optional
            The weight of each sample in the loss, not negative: the mean of a batch divides by the sum of its weights.
            Multiplied by class weights, and used in the validation score too; None is 1 for each. Not for Dask arrays.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        TypeError
            If X is masked, or a setting of a wrong type.
        ValueError
            If X, y or sample_weight does not fit, X is sparse and given layers do not begin with a Dense, a setting is
            out of range, or the loss becomes NaN or infinite. The estimator is then left unchanged.
        """
        with self._learning():
            advice = self._fit(X, y, sample_weight)
        if advice:
            warnings.warn(advice, ConvergenceWarning, stacklevel=2)
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> str:
        """Fit, and return the text of a warning, or an empty string."""
        self._check_parameters()
        again = self.warm_start and hasattr(self, "net_")
        x, targets = self._read(X, y, first=not again)
        targets = _with_weights(x, targets, sample_weight)
        with _held(x):
            self._warn_of_partitions(x, targets)
            return self._fit_rows(x, targets, again)

    def _fit_rows(self, x: Array, targets: Array, again: bool) -> str:
        rng = self._generator()
        weights = self.net_.state_dict() if again else None
        held_out = None
        if self.early_stopping:
            x, held_out_x, targets, held_out_y = self._split(x, targets, rng)
            held_out = held_out_x, held_out_y
        self._begin(x, targets, rng)
        if weights is not None:
            self._take_weights(weights)
        self._train(x, targets, held_out)
        return self._advice(x, split_weights(targets)[0])

    def _warn_of_partitions(self, x: Any, targets: Any) -> None:
        """Warn where rows are mixed within partitions of one class each."""
        if self.shuffle == "partitions" and not is_in_memory(x) and targets.dtype.kind in "iu":
            x.warn_of_one_class(targets)

    def _partial_fit(
        self, X: ArrayLike, y: ArrayLike, piece: Piece, sample_weight: ArrayLike | None
    ) -> Self:
        """Train one epoch."""
        with self._learning():
            self._check_parameters()
            if self.early_stopping:
                raise ValueError("early_stopping must be False for partial_fit")
            first = not hasattr(self, "net_")
            x, targets = self._read(X, y, first=first, piece=piece)
            targets = _with_weights(x, targets, sample_weight)
            if first:
                self._begin(x, targets, self._generator())
            with _held(x):
                self._warn_of_partitions(x, targets)
                epoch = next(self._epochs(x, targets))
            self._check_loss(epoch, x, targets)
            self._check_weights(x, targets)
            self._end_epoch(epoch, None)
        return self

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """What holds while the estimator learns; an error leaves it unchanged."""
        sharing = share_blas_threads() if self.share_blas_threads else nullcontext()
        with unchanged_on_error(self), sharing, np.errstate(over="ignore", invalid="ignore"):
            yield

    def _begin(self, x: Array, targets: Array, rng: np.random.Generator) -> None:
        """Make the network and what trains it."""
        self.net_ = self._network(x, rng)
        optimizer = optimizer_of(
            self.optimizer, self.net_, self.learning_rate_init, self.weight_decay
        )
        n = x.shape[0]
        steps = self.max_iter * len(batches(n, self._batch_size(n)))
        schedule: Any = schedule_of(self.schedule, optimizer.lr, steps)
        if self.learning_rate == "adaptive":
            schedule = Patience(self.tol, self.n_iter_no_change)
        loss = self._loss(split_weights(targets)[0])
        self._training = Training(self.net_, loss, optimizer, schedule, rng)
        self.history_ = {name: [] for name in Epoch._fields}
        if self.early_stopping:
            self.history_["validation_score"] = []
        self.n_iter_ = 0
        self.loss_ = math.nan  # of no epoch yet, should the first be interrupted
        self.__dict__.pop("best_validation_score_", None)

    def _network(self, x: Array, rng: np.random.Generator) -> nn.Sequential:
        """A new network for X and the outputs."""
        if self.layers is None:
            return network(
                [self.n_features_in_, *self._widths(), self.n_outputs_],
                activation=self.activation,
                batch_norm=self.batch_norm,
                dropout=self.dropout,
                init=self.init,
                dtype=x.dtype,
                rng=rng,
            )
        net = given_network(self.layers, x.dtype, rng)
        if is_sparse(x) and not net._takes_sparse:
            raise ValueError(
                f"layers must begin with a Dense where X is sparse, got {net.layers[0]!r}"
            )
        shape = net.output_shape((2, *x.shape[1:]))
        if shape != (2, self.n_outputs_):
            raise ValueError(
                f"layers must give y of shape (n, {self.n_outputs_}) for X of shape "
                f"{_of_rows(x.shape[1:])}, got {_of_rows(shape[1:])}"
            )
        return net

    def _train(self, x: Array, targets: Array, held_out: tuple[Array, Array] | None) -> None:
        """Train until a criterion stops it; with early stopping, restore the weights of the best epoch."""
        patience = Patience(self.tol, self.n_iter_no_change)
        best = score = None
        with _until_interrupted(), progress(self.verbose, self.max_iter) as show:
            for epoch in islice(self._epochs(x, targets), self.max_iter):
                self._check_loss(epoch, x, targets)
                if held_out is not None:
                    z = outputs(self.net_, held_out[0])
                    score = self._validation_score(z, *split_weights(held_out[1]))
                self._end_epoch(epoch, score)
                show(**{name: values[-1] for name, values in self.history_.items()})
                if patience.is_best(-epoch.loss if score is None else score) and score is not None:
                    self.best_validation_score_ = score
                    best = self.net_.state_dict()
                if self._training.is_over if self._training.is_adaptive else patience.is_over:
                    break
        if best is not None:
            self.net_.load_state_dict(best)
        self._check_weights(x, targets)

    def _advice(self, x: Array, targets: Array) -> str:
        """Advice where the training diverged or learned nothing; else an empty string."""
        if not self.history_["loss"]:  # interrupted in the first epoch
            return ""
        astray = self.loss_ > _ASTRAY * max(self.history_["loss"][0], 1.0) or self.loss_ > _HUGE
        if astray and not self.early_stopping:  # which keeps an epoch before
            why = why_not_finite(x, targets, self._training.optimizer.lr)
            return f"the training ended at a loss of {self.loss_:.3g}: {why}"
        experiment = self.n_iter_ < _EPOCHS_FOR_A_HINT or self.n_iter_no_change == math.inf
        return "" if experiment else self._hint(x, targets)

    def _hint(self, x: Array, targets: Array) -> str:
        """Advice where nothing was learned."""
        return ""

    def _epochs(self, x: Array, targets: Array) -> Iterator[Epoch]:
        n = x.shape[0]
        size = self._batch_size(n)
        if self.batch_norm and min(n, size) < 2:
            raise ValueError(
                "batch_norm needs batches of two samples or more, "
                f"got n_samples = {n} and batch_size = {size}"
            )
        return self._training.epochs(x, targets, size, self.shuffle)

    def _end_epoch(self, epoch: Epoch, score: float | None) -> None:
        numbers = epoch._asdict()
        if score is not None:
            numbers["validation_score"] = score
        for name, value in numbers.items():
            self.history_[name].append(value)
        self.n_iter_ += 1
        self.loss_ = epoch.loss
        self._training.end_epoch(epoch.loss, score)

    def _check_loss(self, epoch: Epoch, x: Array, targets: Array) -> None:
        """A ValueError if the loss is not finite."""
        if not math.isfinite(epoch.loss):
            self._stop(f"the loss became {epoch.loss} in epoch {self.n_iter_ + 1}", x, targets)

    def _check_weights(self, x: Array, targets: Array) -> None:
        """A ValueError if the weights are not finite."""
        if not all(np.isfinite(param).all() for param in self.net_.params):
            self._stop("the weights became infinite", x, targets)

    def _stop(self, what: str, x: Array, targets: Array) -> None:
        raise ValueError(
            f"{what}: {why_not_finite(x, split_weights(targets)[0], self._training.optimizer.lr)}"
        )

    def _take_weights(self, weights: dict[str, Array]) -> None:
        """Load the weights of the network of the last fit."""
        try:
            self.net_.load_state_dict(weights)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"warm_start needs the layers that there were, but the {error}"
            ) from None

    def _split(self, x: Array, targets: Array, rng: np.random.Generator) -> list[Array]:
        """Split both into a part to train on and a validation part."""
        try:
            indices: list[Array] = train_test_split(
                np.arange(x.shape[0]),
                test_size=self.validation_fraction,
                stratify=self._stratified_by(split_weights(targets)[0]),
                random_state=int(rng.integers(2**31)),
            )
            if len(indices[1]) < 2:
                raise ValueError("a single one has no score")
        except ValueError as error:
            raise ValueError(
                "early_stopping needs more samples for its share of "
                f"validation_fraction={self.validation_fraction:g}: {error}"
            ) from None
        return [_of(array, index) for array in (x, targets) for index in indices]

    # ---- settings ----

    def _widths(self) -> list[int]:
        given = self.hidden_layer_sizes
        name = "hidden_layer_sizes"
        if np.ndim(given) == 0:  # type: ignore[arg-type]
            return [_checks.integer_from(given, 1, name)]
        return [_checks.integer_from(n, 1, f"{name}[{i}]") for i, n in enumerate(given)]  # type: ignore[arg-type]

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        return min(int(self.batch_size), n)

    def _generator(self) -> np.random.Generator:
        """The generator of weights, validation split, batches and dropout."""
        given = self.random_state
        if isinstance(given, np.random.Generator | np.random.BitGenerator | np.random.SeedSequence):
            return _seeds.generator_of(given)
        try:
            state = check_random_state(given)
        except ValueError:
            raise ValueError(
                "random_state must be an int, a numpy.random.RandomState, Generator, BitGenerator or "
                f"SeedSequence, numpy.random or None, got {given!r}"
            ) from None
        return np.random.default_rng(state.randint(2**31 - 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- prediction ----

    def _validated(self, X: ArrayLike, y: Any, *, first: bool, **options: Any) -> tuple[Array, Any]:
        """X, contiguous, in the dtype of the network, and y."""
        dtype = DTYPES if first else self.net_._dtype
        if is_dask_data(X) or is_dask_data(y):
            y = y if self._y_stays(X, y) else on_dask().in_memory(y)
        if is_dask_data(X):
            if self.layers is not None:
                raise TypeError("X must be in memory where layers are given, got a Dask array")
            return self._validated_on_dask(X, y, dtype, first, **options)
        _arrays.check_readable(y, "y")
        x, y = self._rows_of(X, y, reset=first, dtype=dtype, multi_output=True, **options)
        if first:
            self._row_shape = x.shape[1:]
        return x, y.toarray() if hasattr(y, "toarray") else y

    def _rows_of(self, X: ArrayLike, *y: Any, reset: bool, **options: Any) -> Any:
        """X, with y if it is given, as scikit-learn checks them; contiguous, of two axes or as the layers take it."""
        _arrays.check_readable(X, "X")
        images = self.layers is not None
        found = validate_data(
            self, X, *y, reset=reset, accept_sparse="csr", order="C", allow_nd=images, **options
        )
        shape = (found[0] if y else found).shape[1:]
        if images and not reset and shape != self._row_shape:
            raise ValueError(
                f"X must have shape {_of_rows(self._row_shape or ())}, as in fit, got {_of_rows(shape)}"
            )
        return found

    def _validated_on_dask(
        self, X: Any, y: Any, dtype: Any, first: bool, y_numeric: bool = False
    ) -> tuple[Any, Any]:
        """X as rows on Dask's workers, and y, which may be there, too."""
        data = on_dask()
        table = data.Table(X)
        like = validate_data(self, table.head, reset=first, dtype=dtype)
        stays = self._y_stays(X, y)
        targets = y if stays else data.checked_targets(self, y, y_numeric)
        by_partition = self.shuffle == "partitions"
        rows = data.SpreadRows(
            table, len(targets), like, by_partition=by_partition, verbose=self.verbose
        )
        return rows, data.SpreadTargets(rows, X, y) if stays else targets

    def _y_stays(self, X: Any, y: Any) -> bool:
        """Whether y stays where X is. Class weights and a validation split need it in this process."""
        weighted = getattr(self, "class_weight", None) is not None
        stays: bool = not (self.early_stopping or weighted) and on_dask().stays(X, y, self._y_axes)
        return stays

    def _outputs(self, X: ArrayLike) -> Array:
        """The output of the network, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        return outputs(self.net_, self._rows_of(X, reset=False, dtype=DTYPES))


def _with_weights(x: Any, targets: Array, sample_weight: Any) -> Any:
    """The targets, together with the weights of the samples where there are any."""
    if sample_weight is None:
        return targets
    if not is_in_memory(x):
        raise ValueError("sample_weight must be None where X is Dask's")
    _arrays.check_readable(sample_weight, "sample_weight")
    weights = _check_sample_weight(sample_weight, x, dtype=np.float64)
    if (weights < 0).any() or not weights.any():
        raise ValueError("sample_weight must not be negative or all 0")
    return WeightedTargets(targets, weights)


def _of(array: Any, index: Array) -> Any:
    """Rows by index, in memory or on Dask."""
    return array.of(index) if hasattr(array, "of") else array[index]


def _held(x: Any) -> AbstractContextManager[Any]:
    """A context that holds rows on Dask's workers during the training; an array in memory needs none."""
    return nullcontext() if is_in_memory(x) else x


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Let Ctrl-C end the training with a warning, not the program; the network stays as trained, as in scikit-learn."""
    try:
        yield
    except KeyboardInterrupt:
        warnings.warn(
            "Training interrupted by user: the network is as it was then", UserWarning, stacklevel=5
        )


def _of_rows(shape: tuple[int, ...]) -> str:
    """The text for the shape of n rows."""
    return f"({', '.join(['n', *map(str, shape)])})"


def outputs(net: nn.Sequential, x: Array) -> Array:
    """The output of the network, computed in batches; of rows on a cluster there."""
    if hasattr(x, "outputs"):
        computed: Array = x.outputs(net)
        return computed
    rows = ROWS if len(x.shape) == 2 else IMAGES
    parts = [net.forward(x[first : first + rows]) for first in range(0, x.shape[0], rows)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
