"""Every example in a docstring runs and prints what it says, those of ufuncs included."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import nnfast as nf

MODULES = [
    module.name
    for module in pkgutil.walk_packages(nf.__path__, "nnfast.")
    # The second needs PyTorch.
    if module.name not in ("nnfast._core", "nnfast.demo.torch_images")
]


def examples() -> list[doctest.DocTest]:
    """One for each docstring that has an example; ufuncs are found through their module's __test__."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(import_module(name), name)]
    return [test for test in found if test.examples]


def failures(test: doctest.DocTest) -> str:
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    return "".join(report)


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_example(test: doctest.DocTest) -> None:
    assert failures(test) == ""


def test_ufuncs_are_among_them() -> None:
    names = {test.name.rsplit(".", 1)[-1] for test in examples()}
    assert {"relu", "prelu_backward", "sigmoid", "tanh", "softmax", "batch_norm", "Adam"} <= names
    assert {*nf.augmentation.__all__, *nf.preprocessing.__all__, "preprocessing"} <= names
    assert {*nf.init.__all__, "init"} <= names
    assert {*nf.nn.__all__, "nn"} <= names


def test_a_wrong_example_is_found() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected:\n    3\nGot:\n    2" in failures(wrong)
