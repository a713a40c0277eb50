"""Networks as scikit-learn estimators: NNClassifier and NNRegressor.

They stand where MLPClassifier and MLPRegressor stand, with their names where those mean the same, and add BatchNorm,
dropout, every activation, optimizer and schedule of nnfast, class weights and a history of the training. Pipelines,
cross-validation and searches are scikit-learn's own; docs/estimators.md shows a search from coarse to fine.

This module needs scikit-learn: ``pip install 'nnfast[sklearn]'``.

Examples
--------
>>> import nnfast as nf
>>> from sklearn.datasets import load_digits
>>> from sklearn.model_selection import cross_val_score
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> x, y = load_digits(return_X_y=True)
>>> net = nf.estimators.NNClassifier(batch_norm=True, batch_size=50, max_iter=10, random_state=0)
>>> scores = cross_val_score(make_pipeline(StandardScaler(), net), x, y, cv=3)
>>> bool(scores.mean() > 0.9)
True
"""

from nnfast import _docs

try:
    from nnfast.estimators.classifier import NNClassifier
    from nnfast.estimators.regressor import NNRegressor
except ImportError as error:
    raise ImportError(
        "nnfast.estimators needs scikit-learn 1.6 or newer: pip install 'nnfast[sklearn]'"
    ) from error

__all__ = ["NNClassifier", "NNRegressor"]

_docs.finish(
    __name__,
    {
        "X": "Samples, a row each.",
        "y": "What is to be predicted, or is predicted, of each sample.",
        "p": "A row for each sample, a column for each class or label.",
        "log_p": "A row for each sample, a column for each class or label.",
        "z": "A row for each sample, a column for each class or label.",
        "activation": "Of the hidden layers, as of NNClassifier.",
    },
)
