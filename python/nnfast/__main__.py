"""``python -m nnfast``: what is installed; ``python -m nnfast demo``: a demo, ``demo --images`` another."""

import argparse
import sys
from importlib import import_module
from typing import Any

import numpy as np

import nnfast as nf
from nnfast._load import _core


def info() -> str:
    """Version, instruction sets, threads and build, a line each."""
    cpu, build = nf.cpu_info(), _core.build_info()
    lines = {
        "nnfast": nf.__version__,
        "instruction sets": f"{cpu['chosen']} in use; built {', '.join(cpu['built'])}; "
        f"supported here {', '.join(cpu['supported'])}",
        "threads": f"{nf.get_num_threads()}, by {_core.threading()}",
        "BLAS": _blas(cpu["blas"]),
        "built with": f"{build['compiler']}, {build['flags']}, pybind11 {build['pybind11']}, "
        f"NumPy {build['numpy']}; threading {build['threading']}",
        "running on": f"Python {sys.version.split()[0]}, NumPy {np.__version__}",
    }
    return "\n".join(f"{name:18}{value}" for name, value in lines.items())


def _blas(libraries: tuple[dict[str, Any], ...]) -> str:
    """Which kernels the BLAS uses, and whose threads; why they are not nnfast's."""
    if not libraries:
        built_with = np.show_config(mode="dicts")["Build Dependencies"].get("blas", {})
        return f"{built_with.get('name', 'unknown')}, whose threads cannot be shared"
    return "; ".join(_library(**library) for library in libraries)


def _library(path: str, version: str, kernels: str, threads: int, shares_threads: bool) -> str:
    """One OpenBLAS; of its own words only name and number of the version are shown."""
    words = f"{' '.join(version.split()[:2])}, kernels {kernels}, {threads} threads"
    if shares_threads:
        return f"{words} of nnfast's"
    return f"{words} of its own ({_core.blas_reason(path).replace(path, 'it')})"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m nnfast", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    demo = commands.add_parser("demo", help="train a network on handwritten digits")
    demo.add_argument("--images", action="store_true", help="a residual network, on MNIST")
    demo.add_argument("--epochs", type=int)
    demo.add_argument("--seed", type=int)
    demo.add_argument("--picture", help="where to save the curves")
    options = parser.parse_args(arguments)
    if options.command is None:
        print(info())
        return 0
    try:
        run = import_module(f"nnfast.demo.{'images' if options.images else 'digits'}").run
        given = {name: getattr(options, name) for name in ("epochs", "seed", "picture")}
        run(**{name: value for name, value in given.items() if value is not None})
    except ModuleNotFoundError as missing:
        print(f"The demo needs {missing.name}: pip install 'nnfast[demo]'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
