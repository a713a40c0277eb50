"""The environment of a process that uses AVX2 at most, whatever its processor has: nnfast, NumPy, BLAS and peers."""

import os
from importlib import import_module

import nnfast as nf

ISA = "x86-64-v3"
CAPS = {
    "NNFAST_ISA": ISA,
    "OPENBLAS_CORETYPE": "Haswell",
    "BLIS_ARCH_TYPE": "haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse4.2",
}
# Peers that look at the processor alone.
_UNCAPPED = frozenset({"onnx"})


def environment() -> dict[str, str]:
    """This process's environment with the caps."""
    caps = dict(CAPS)
    if "XLA_FLAGS" in os.environ:
        caps["XLA_FLAGS"] = f"{os.environ['XLA_FLAGS']} {CAPS['XLA_FLAGS']}"
    features = _wide_features()
    if features:  # NumPy warns of those that the processor does not have
        caps["NPY_DISABLE_CPU_FEATURES"] = " ".join(features)
    return os.environ | caps


def is_capped() -> bool:
    """Whether this process was started with them."""
    return os.environ.get("NNFAST_ISA") == ISA


def uncapped() -> frozenset[str]:
    """Peers that cannot be capped, where the processor has more."""
    return _UNCAPPED if "x86-64-v4" in nf.cpu_info()["supported"] else frozenset()


def _wide_features() -> list[str]:
    """What NumPy would dispatch on this processor beyond AVX2, by its names."""
    umath = import_module("numpy._core._multiarray_umath")
    return [
        name
        for name in umath.__cpu_dispatch__
        if name.startswith(("AVX512", "X86_V4")) and umath.__cpu_features__.get(name)
    ]
