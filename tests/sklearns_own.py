"""A plugin of pytest: scikit-learn's own tests of StandardScaler and PCA, on nnfast's classes.

    PYTHONPATH=tests python -m pytest -p sklearns_own --pyargs sklearn.preprocessing.tests.test_data -k StandardScaler
    PYTHONPATH=tests python -m pytest -p sklearns_own --pyargs sklearn.decomposition.tests.test_pca

Arguments that nnfast's PCA has not, those that choose an algorithm, are taken and ignored.
"""

from typing import Any

import sklearn.decomposition
import sklearn.preprocessing

from nnfast import preprocessing


class PCA(preprocessing.PCA):
    """nnfast's, with scikit-learn's signature."""

    def __init__(
        self,
        n_components: Any = None,
        *,
        copy: bool = True,
        whiten: bool = False,
        svd_solver: str = "auto",
        tol: float = 0.0,
        iterated_power: Any = "auto",
        n_oversamples: int = 10,
        power_iteration_normalizer: str = "auto",
        random_state: Any = None,
    ) -> None:
        super().__init__(n_components, whiten=whiten)
        self.copy = copy
        self.svd_solver = svd_solver
        self.tol = tol
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.power_iteration_normalizer = power_iteration_normalizer
        self.random_state = random_state

    @property
    def n_samples_(self) -> int:
        """The name that scikit-learn's PCA has for n_samples_seen_."""
        return int(self.n_samples_seen_)


sklearn.preprocessing.StandardScaler = preprocessing.StandardScaler
sklearn.decomposition.PCA = PCA
