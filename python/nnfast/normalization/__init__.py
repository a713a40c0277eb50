"""Batch, group and instance normalization; statistics over pieces of a batch, and folding into a layer's weights."""

# ruff: noqa: F403
from nnfast.normalization import batch, folding, groups, instances, stats
from nnfast.normalization.batch import *
from nnfast.normalization.batch import BatchNormSaved as BatchNormSaved
from nnfast.normalization.folding import *
from nnfast.normalization.groups import *
from nnfast.normalization.groups import GroupNormSaved as GroupNormSaved
from nnfast.normalization.instances import *
from nnfast.normalization.stats import *
from nnfast.normalization.stats import BatchNormStats as BatchNormStats

__all__: list[str] = []
__all__ += batch.__all__
__all__ += stats.__all__
__all__ += folding.__all__
__all__ += groups.__all__
__all__ += instances.__all__
