"""The old place of nnfast.optim.optimizer, which pickles of version 0.1 name."""

from nnfast.optim.stats import StepStats as StepStats
