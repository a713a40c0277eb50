"""docs/examples: the losses over nnfast are those of plain NumPy, and the page counts the lines as they are."""

import inspect
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import __main__ as command
from bench import examples
from bench.examples import EXAMPLES, FOLDER, load

SIZES: dict[str, dict[str, Any]] = {
    "sample_at_a_time": {"hidden": 40, "steps": 30},
    "functions_with_caches": {"features": 60, "hidden": 50, "batch": 30, "steps": 30},
    "layers_in_a_dict": {"hidden": (50, 30), "batch": 40, "steps": 30},
    "update_functions": {"hidden": (50, 30), "batch": 40, "steps": 30},
    "char_rnn": {"hidden": 40, "steps": 30},
    "gpt": {"width": 24, "heads": 3, "batch": 4, "time": 20, "steps": 10},
}
each_example = pytest.mark.parametrize("name", EXAMPLES)


def run(module: ModuleType, dtype: Any = np.float64, seed: int = 0) -> NDArray[Any]:
    """The losses of a small run whose masks, if it has any, follow from the seed."""
    sizes, rng = dict(SIZES[module.__name__.removesuffix("_nnfast")]), np.random.default_rng(seed)
    if "keep" in inspect.signature(module.main).parameters:
        sizes["keep"] = lambda shape: rng.random(shape) < 0.7
    return np.array(module.main(dtype, **sizes))


def losses(file: str, *args: Any, **kwargs: Any) -> NDArray[Any]:
    return run(load(file), *args, **kwargs)


@each_example
def test_the_losses_are_those_of_plain_numpy(name: str) -> None:
    plain, port = losses(name), losses(f"{name}_nnfast")
    assert len(plain) == SIZES[name]["steps"]
    assert np.mean(plain[-5:]) < 0.97 * plain[0]
    np.testing.assert_allclose(port, plain, rtol=0, atol=1e-10)


def statistics_of_functions(file: str) -> list[NDArray[Any]]:
    """The running mean and variance at the end of functions_with_caches."""
    module, seen = load(file), {}
    step = module.loss_and_grads

    def loss_and_grads(params: Any, bn_param: Any, *rest: Any) -> Any:
        seen["bn_param"] = bn_param
        return step(params, bn_param, *rest)

    module.loss_and_grads = loss_and_grads
    run(module)
    return [seen["bn_param"][name] for name in ("mean", "var")]


def statistics_of_layers(file: str) -> list[NDArray[Any]]:
    """Those of the batch norms of update_functions."""
    module, seen = load(file), []

    class BatchNorm(module.BatchNorm):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            seen.extend(self.running)

    module.BatchNorm = BatchNorm
    run(module)
    return seen


@pytest.mark.parametrize(
    ("name", "statistics"),
    [
        ("functions_with_caches", statistics_of_functions),
        ("update_functions", statistics_of_layers),
    ],
)
def test_running_statistics_are_those_of_the_convention(
    name: str, statistics: Callable[[str], list[NDArray[Any]]]
) -> None:
    plain, port = statistics(name), statistics(f"{name}_nnfast")
    assert len(plain) == len(port) >= 2
    for a, b in zip(plain, port, strict=True):
        assert np.ptp(a) > 0
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10)


@each_example
def test_float32_stays_float32(name: str) -> None:
    plain, port = (losses(file, np.float32) for file in (name, f"{name}_nnfast"))
    assert np.abs(port - plain)[0] < 1e-5
    assert np.abs(plain - losses(name))[0] > 0  # not computed in float64
    np.testing.assert_allclose(port, plain, rtol=0.02)


@pytest.mark.parametrize("name", ["functions_with_caches", "layers_in_a_dict"])
def test_other_masks_give_other_losses(name: str) -> None:
    assert np.abs(losses(f"{name}_nnfast") - losses(f"{name}_nnfast", seed=1)).max() > 1e-4


@pytest.mark.parametrize("name", ["functions_with_caches", "layers_in_a_dict"])
def test_masks_that_are_drawn_train_alike(name: str) -> None:
    sizes = SIZES[name] | {"steps": 200}
    ends = [np.mean(load(file).main(**sizes)[-50:]) for file in (name, f"{name}_nnfast")]
    assert ends[0] == pytest.approx(ends[1], rel=0.15)


@each_example
def test_both_versions_can_be_laid_side_by_side(name: str) -> None:
    plain, port = (load(file) for file in (name, f"{name}_nnfast"))
    assert not hasattr(plain, "nf")
    assert hasattr(port, "nf")
    assert inspect.signature(plain.main) == inspect.signature(port.main)
    assert len(examples.code(f"{name}_nnfast")) <= (90 if name == "gpt" else 80)
    assert {path.stem.removesuffix("_nnfast") for path in FOLDER.glob("*.py")} == EXAMPLES.keys()


@each_example
def test_the_page_has_the_lines_as_they_are(name: str) -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = re.search(
        rf"^\| \[{name}\]\({name}.py\), .*\| (\d+) \| (\d+) \| -(\d+) \+(\d+) \|", page, re.M
    )
    assert row, name
    assert tuple(map(int, row.groups())) == examples.lines(name)


# ---- python -m bench examples ----


def test_products_are_timed_and_change_nothing() -> None:
    spans: examples.Spans = []
    timed = load("char_rnn", spans).main(np.float64, **SIZES["char_rnn"])
    assert timed == load("char_rnn").main(np.float64, **SIZES["char_rnn"])
    # In each of 30 steps: 25 forward, 25 backward, the scores' and theirs back, three gradients of weights.
    assert len(spans) == 30 * (25 + 25 + 2 + 3)
    assert all(begin < end for begin, end in spans)
    assert all(end < begin for (_, end), (begin, _) in pairwise(spans))


def test_time_outside_of_products_is_part_of_the_step() -> None:
    step, outside = examples.step_times("sample_at_a_time_nnfast", "float32", 10)
    assert step.shape == outside.shape == (10,)
    assert (outside > 0).all()
    assert (outside < step).all()


def test_lines_of_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    plain = [
        '"""Two lines',
        'that say what."""',
        "",
        "# why",
        "a = 1  # one",
        "b = (",
        "    2",
        ")",
    ]
    (tmp_path / "x.py").write_text("\n".join(plain))
    (tmp_path / "x_nnfast.py").write_text("\n".join([*plain[:5], "c = 3"]))
    assert examples.code("x") == plain[4:]
    assert examples.lines("x") == (4, 2, 3, 1)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(EXAMPLES, "sample_at_a_time", 5)
    monkeypatch.setattr(examples, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["bench", "examples", "--only", "sample_at_a_time"])
    command.main()
    head, *rows = capsys.readouterr().out.splitlines()
    assert "outside products" in head
    count = examples.lines("sample_at_a_time")
    for row, dtype in zip(rows, ("float32", "float64"), strict=True):
        name, *change, named, plain, port, ratio, outside, of_port, times = row.split()
        assert (name, named) == ("sample_at_a_time", dtype)
        assert change == [str(count.plain), f"-{count.removed}", f"+{count.added}"]
        assert float(ratio) == pytest.approx(float(plain) / float(port), rel=0.02)
        assert float(times) == pytest.approx(float(outside) / float(of_port), rel=0.02)
        assert float(outside) < float(plain)
    with pytest.raises(LookupError, match="no example is called perceptron"):
        examples.main(["perceptron"])
