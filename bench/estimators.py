"""NNClassifier beside scikit-learn's MLPClassifier: default settings on three data sets, and a search of each.

Both stand behind StandardScaler and get the same folds, ranges to search and seeds, in turn.
"""

import warnings
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.timing import settle
from nnfast.estimators import NNClassifier

DATA = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
CANDIDATES = {"NNClassifier": NNClassifier, "MLPClassifier": MLPClassifier}
# Where both begin to search; each has its own measure of regularization.
COMMON = {
    "learning_rate_init": loguniform(1e-4, 1e-1),
    "hidden_layer_sizes": [(50,), (100,), (200,), (100, 50)],
    "batch_size": [32, 64, 128],
}
OWN = {
    "NNClassifier": {"weight_decay": loguniform(1e-5, 1e-2)},
    "MLPClassifier": {"alpha": loguniform(1e-5, 1e-2)},
}

DRAWS = 20


class Row(NamedTuple):
    """What came of one comparison for one candidate."""

    task: str
    name: str
    accuracies: list[float]
    seconds: list[float]


def fitted(model: Any, x: Any, y: Any) -> tuple[Any, float]:
    """The model, and how many seconds it took."""
    settle()
    begin = perf_counter()
    with warnings.catch_warnings():
        # MLPClassifier says that it reached its max_iter, or that there are fewer samples than batch_size.
        warnings.simplefilter("ignore", UserWarning)
        model.fit(x, y)
    return model, perf_counter() - begin


def defaults(data: str, seeds: int, splits: int = 5) -> dict[str, Row]:
    """Cross-validation with default settings; a time is one fit."""
    x, y = DATA[data](return_X_y=True)
    rows = {name: Row(data, name, [], []) for name in CANDIDATES}
    for seed in range(seeds):
        for train, test in StratifiedKFold(splits, shuffle=True, random_state=seed).split(x, y):
            scaler = StandardScaler().fit(x[train])
            for name, make in CANDIDATES.items():
                model, seconds = fitted(
                    make(random_state=seed), scaler.transform(x[train]), y[train]
                )
                rows[name].accuracies.append(model.score(scaler.transform(x[test]), y[test]))
                rows[name].seconds.append(seconds)
    return rows


def searches(data: str, seeds: int) -> dict[str, Row]:
    """RandomizedSearchCV, scored on a fifth of the data that it has not seen; a time is one search."""
    x, y = DATA[data](return_X_y=True)
    task = f"{data}, search of {DRAWS}"
    rows = {name: Row(task, name, [], []) for name in CANDIDATES}
    for seed in range(seeds):
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=0.2, stratify=y, random_state=seed
        )
        for name, make in CANDIDATES.items():
            pipeline = make_pipeline(StandardScaler(), make(random_state=seed))
            settings = {f"{name.lower()}__{key}": v for key, v in (COMMON | OWN[name]).items()}
            search = RandomizedSearchCV(pipeline, settings, n_iter=DRAWS, random_state=seed)
            _, seconds = fitted(search.set_params(cv=3), x_train, y_train)
            rows[name].accuracies.append(search.score(x_test, y_test))
            rows[name].seconds.append(seconds)
    return rows


def lines(rows: dict[str, Row]) -> Iterator[str]:
    """A line for each candidate: mean accuracy and its standard error over folds and seeds, median seconds, speed."""
    slowest = max(float(np.median(row.seconds)) for row in rows.values())
    for row in rows.values():
        mean, seconds = np.mean(row.accuracies) * 100, float(np.median(row.seconds))
        error = np.std(row.accuracies) * 100 / len(row.accuracies) ** 0.5
        yield (
            f"{row.task:28}{row.name:15}{mean:9.2f} ±{error:5.2f}"
            f"{seconds:10.3f}{slowest / seconds:8.1f}"
        )


def main(seeds: int = 5) -> None:
    """Print the table."""
    print(f"{'':28}{'':15}{'accuracy %':>16}{'seconds':>10}{'times':>8}")
    for measure in (defaults, searches):
        for data in DATA:
            print("\n".join(lines(measure(data, seeds))), flush=True)
