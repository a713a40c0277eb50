"""The old place of nnfast.estimators.training, which pickles of version 0.1 name."""

from nnfast.estimators.training import Training as Training
