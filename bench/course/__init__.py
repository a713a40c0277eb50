"""The claims of a course on training neural networks, each shown on real digits by a script of its own.

``python -m bench course`` runs all of them, ``python -m bench.course.dropout`` one; docs/course.md is what they found.
"""

from collections.abc import Sequence
from importlib import import_module

# Their titles on the page.
LESSONS = {
    "initialisation": "Initialisation",
    "relu_against_sigmoid": "ReLU against sigmoid",
    "batch_norm": "Batch normalization",
    "dropout": "Dropout",
    "mask_average": "The mean of dropout's masks",
    "random_search": "Random search",
    "running_average": "The running average of the parameters",
    "symmetry": "Symmetry",
    "positive_bias": "Positive biases",
    "wall_time": "Wall time",
}


def main(only: Sequence[str], quick: bool) -> None:
    """Run some lessons, or all.

    Raises
    ------
    LookupError
        If there is none of a name.
    """
    from bench.course import page

    if unknown := set(only) - LESSONS.keys():
        raise LookupError(f"no lesson is called {', '.join(sorted(unknown))}")
    names = [name for name in LESSONS if name in only or not only]
    folder = page.folder_for(quick)
    shown = [page.show(import_module(f"bench.course.{name}").run, quick, folder) for name in names]
    print(f"\n{sum(shown)} of {len(names)} claims shown")
