"""All cases, family by family, and the rule that no public kernel goes without one."""

from types import ModuleType

import numpy as np

import nnfast as nf
from bench import (
    activations,
    axes,
    batches,
    bias,
    convolution,
    dropout,
    embedding,
    gating,
    layer_norm,
    losses,
    normalization,
    optim,
    optim_whole,
    penalties,
    pooling,
    random,
    softmax,
)
from bench.case import Call, Case

FAMILIES: list[ModuleType] = [
    activations,
    gating,
    bias,
    softmax,
    embedding,
    batches,
    convolution,
    losses,
    normalization,
    layer_norm,
    dropout,
    pooling,
    random,
    penalties,
    optim,
    optim_whole,
    axes,
]

# Besides the modules, of whose kernels public_kernels speaks.
NOT_KERNELS = {
    "BlasSharing",
    "__version__",
    "cpu_info",
    "derivative",
    "fold_batch_norm",
    "get_num_threads",
    "merge_stats",
    "num_threads",
    "set_num_threads",
    "share_blas_threads",
}


def public_kernels() -> set[str]:
    """The functions of the package, and what the modules of kernels hold."""
    return {
        *(set(nf.__all__) - NOT_KERNELS - set(nf._LAZY)),
        *nf.optim.rules.__all__,  # the functions call the same kernels
        *(f"penalties.{name}" for name in nf.penalties.__all__),
        *(f"random.{name}" for name in ("bits", "normal", "uniform")),
    }


def family(case: Case) -> str:
    """The name of the file that holds the case."""
    return next(f.__name__.split(".")[-1] for f in FAMILIES if case in f.CASES)


def cases(only: list[str] | None = None) -> list[Case]:
    """All cases, or those whose kernel or family is named.

    Raises
    ------
    LookupError
        If a public kernel has no case, or a name is neither a kernel's nor a family's.
    """
    every = [case for family in FAMILIES for case in family.CASES]
    missing = public_kernels() - {case.kernel.split()[0] for case in every}
    if missing:
        raise LookupError(f"public kernels without a benchmark case: {', '.join(sorted(missing))}")
    if not only:
        return every
    known = {name for case in every for name in (case.kernel, family(case))}
    unknown = set(only) - known
    if unknown:
        raise LookupError(f"no kernel or family is called {', '.join(sorted(unknown))}")
    return [
        case for case in every if {case.kernel, case.kernel.split()[0], family(case)} & set(only)
    ]


def case(kernel: str) -> Case:
    """The case of one kernel."""
    return next(case for case in cases() if case.kernel == kernel)


def call(kernel: str, n: int) -> Call:
    """A call of one kernel on float32 arrays, in the form that allocates nothing where there is one."""
    return next(iter(case(kernel).problem(n, np.dtype(np.float32)).forms().values()))
