"""The lessons of a course: each shows its claim at a small size, but not without its subject, and is on the page."""

import math
import re
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import sklearn.model_selection
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

import nnfast as nf
from bench import __main__ as command
from bench import course, plots
from bench.course import batch_norm, common, initialisation, page
from bench.course.common import Finding, Lesson

ROOT = Path(__file__).parents[1]
each_lesson = pytest.mark.parametrize("name", course.LESSONS)


def run_of(name: str) -> page.Run:
    run: page.Run = import_module(f"bench.course.{name}").run
    return run


def verdicts(name: str, lesson: Lesson) -> list[bool]:
    """What is said of each part of the claim, but for the part of wall_time that is up to the machine."""
    parts = [finding.shown for finding in lesson.findings if finding.shown is not None]
    return parts[:1] if name == "wall_time" else parts


def assert_drawn(picture: Path) -> None:
    with Image.open(picture) as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # a blank page has one


@pytest.fixture(autouse=True)
def temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What quick runs leave behind goes where pytest clears up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


# ---- claims ----


@each_lesson
def test_the_claim_is_shown_and_drawn(name: str, tmp_path: Path) -> None:
    lesson = run_of(name)(True)
    found = verdicts(name, lesson)
    assert found
    assert all(found), "\n".join(map(str, lesson.findings))
    plots.write(lesson.figure, tmp_path / "picture.png")
    assert_drawn(tmp_path / "picture.png")


# ---- the same without the subject of the claim ----


class Unscaled(nf.nn.Dropout):
    """Vanilla dropout that forgets to scale at test time."""

    def __init__(self, p: float, *, mode: str, rng: Any) -> None:
        super().__init__(p, mode="vanilla", rng=rng)

    def forward(self, x: Any, training: bool = False) -> NDArray[Any]:
        return super().forward(x, training=True) if training else np.array(x)


def networks_with(change: Callable[[dict[str, Any]], None]) -> Callable[..., nf.nn.Sequential]:
    """What makes a lesson's networks, with other keywords than the lesson gives."""
    make = common.network

    def network(*args: Any, **kwargs: Any) -> nf.nn.Sequential:
        change(kwargs)
        return make(*args, **kwargs)

    return network


def sampled_like_the_grid(spread: dict[str, Any], n: int, random_state: int) -> Any:
    """Three values of each distribution, with each other."""
    values = {name: found.ppf([0, 0.5, 1]) for name, found in spread.items()}
    return sklearn.model_selection.ParameterGrid(values)


def centred_digits(return_X_y: bool) -> Any:
    x, labels = load_digits(return_X_y=True)
    return x - 8, labels


load_digits = sklearn.datasets.load_digits
NO_NORM = networks_with(lambda kwargs: kwargs.pop("norm"))
ALL_INVERTED = networks_with(lambda kwargs: kwargs.pop("mode", None))
XAVIER = networks_with(lambda kwargs: kwargs.update(init="xavier"))
SIGMOIDS = dict.fromkeys(("sigmoid", "ReLU"), (nf.nn.Sigmoid, "xavier"))


def all_by(init: Any) -> dict[str, Any]:
    return {name: (layer, init) for name, (layer, _) in initialisation.SETTINGS.items()}


@pytest.mark.parametrize(
    ("name", "place", "replacement", "expected"),
    [
        ("initialisation", "SETTINGS", all_by(initialisation.SMALL), [True, False, False, False]),
        ("initialisation", "SETTINGS", all_by(initialisation.LARGE), [False, True, False, False]),
        ("initialisation", "SETTINGS", all_by("xavier"), [False, False, True, False]),
        ("relu_against_sigmoid", "SETTINGS", SIGMOIDS, [False]),
        ("batch_norm", "common.network", NO_NORM, [False, False]),
        ("dropout", "P", 0.0, [False, True]),
        ("dropout", "common.network", ALL_INVERTED, [True, False]),
        ("mask_average", "nf.nn.Dropout", Unscaled, [False, False]),
        ("random_search", "sklearn.ParameterSampler", sampled_like_the_grid, [False]),
        ("running_average", "DECAY", 0.0, [False]),
        ("symmetry", "common.network", XAVIER, [False, True]),
        ("symmetry", "sklearn.load_digits", centred_digits, [True, False]),
        ("positive_bias", "BIASES", (0.0, 0.0), [False]),
        ("wall_time", "common.network", NO_NORM, [False]),
    ],
)
def test_the_claim_is_not_shown_without_its_subject(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str, replacement: Any, expected: list[bool]
) -> None:
    homes = {
        "common": common,
        "nf.nn": nf.nn,
        "sklearn": sklearn.model_selection if "Sampler" in place else sklearn.datasets,
        "": import_module(f"bench.course.{name}"),
    }
    home, _, attribute = place.rpartition(".")
    monkeypatch.setattr(homes[home], attribute, replacement)
    lesson = run_of(name)(True)
    assert verdicts(name, lesson) == expected, "\n".join(map(str, lesson.findings))


# ---- what the lessons share ----


def test_digits_are_split_and_scaled_by_what_is_to_train_with() -> None:
    data = common.digits(200, seed=1)
    assert data.x.shape == (200, 64)
    assert data.x_test.shape == (1597, 64)
    assert np.bincount(data.labels).min() >= 19  # as many of each class
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-5)
    assert np.abs(data.x_test.mean(axis=0)).max() > 0.01
    images = {row.tobytes() for row in data.x}
    assert not images & {row.tobytes() for row in data.x_test}
    assert not np.array_equal(data.x, common.digits(200, seed=2).x)


def test_a_network_has_the_layers_that_are_asked_for() -> None:
    net = common.network([8, 4], nf.nn.Tanh, init="xavier", norm=True, p=0.5, mode="vanilla")
    kinds = [nf.nn.Dense, nf.nn.BatchNorm, nf.nn.Tanh, nf.nn.Dropout]
    assert [type(layer) for layer in net] == [*kinds, *kinds, nf.nn.Dense]
    assert "vanilla" in repr(net)
    assert net[0].bias is None  # BatchNorm would take it off again
    assert net.forward(np.zeros((3, 64))).shape == (3, 10)
    plain = common.network([8], dtype=np.float64)
    assert {param.dtype for param in plain.params} == {np.dtype(np.float64)}
    assert [type(layer) for layer in plain] == [nf.nn.Dense, nf.nn.ReLU, nf.nn.Dense]


def test_epochs_see_every_batch_and_stop_where_training_diverges() -> None:
    data = common.digits(200)
    net = common.network([32])
    opt = nf.optim.SGD(net.params, lr=0.1)
    losses = list(common.epochs(net, opt, data, 4, batch=16))
    assert opt.step_count == 4 * (200 // 16)
    assert losses == sorted(losses, reverse=True)
    assert common.accuracies(net, data)[0] > 0.9
    opt.lr = 1e6
    assert list(common.epochs(net, opt, data, 3))[1:] == [math.inf] * 2


def test_batches_are_of_the_size_and_all_of_an_epochs_images_differ() -> None:
    data = common.digits(200)
    seen: list[NDArray[Any]] = []

    class Spy(nf.nn.Layer):
        def forward(self, x: Any, training: bool = False) -> NDArray[Any]:
            seen.append(np.array(x))
            return x

        def backward(self, dy: Any) -> NDArray[Any]:
            return dy

    net = nf.nn.Sequential(Spy(), nf.nn.Dense(64, 10, rng=0))
    list(common.epochs(net, nf.optim.SGD(net.params), data, 2, batch=64))
    assert [len(x) for x in seen] == [64] * 6
    assert len(np.unique(np.concatenate(seen[:3]), axis=0)) == 192
    assert not np.array_equal(seen[0], seen[3])


def test_needed_counts_epochs() -> None:
    assert common.needed([2.0, 0.5, 0.4], 0.5) == 3
    assert common.needed([2.0, 0.6], 0.5) == math.inf


def test_mean_and_error() -> None:
    values = [1.0, 4.0, 2.5, 3.0]
    assert common.mean_and_error(values) == pytest.approx((2.625, stats.sem(values)))


@pytest.mark.parametrize(
    ("losses", "highest"),
    [
        ([[0.1, 0.2], [0.1, 0.1], [0.3, 0.1]], 3.0),
        ([[0.1, 0.2], [0.1, 2.0], [0.3, 0.1]], 1.0),  # one seed is enough to end it
        ([[0.1, 0.2], [0.1, 0.1], [math.inf, 0.1]], 2.0),
        ([[2.0, 0.2], [0.1, 0.1], [0.1, 0.1]], 0.0),
    ],
)
def test_a_rate_is_tolerated_if_all_below_it_are(losses: list[list[float]], highest: float) -> None:
    assert batch_norm.tolerated(np.array([1.0, 2.0, 3.0]), np.array(losses)) == highest


def test_remarks_decide_nothing() -> None:
    remark, part, missed = Finding("a"), Finding("b", True), Finding("c", False)
    assert Lesson([remark, part], None).shown
    assert not Lesson([remark, part, missed], None).shown
    assert [str(each) for each in (remark, part, missed)] == [
        "also measured: a",
        "shown: b",
        "not shown: c",
    ]


# ---- the page ----


def lesson_of_tests(quick: bool = False) -> Lesson:
    """A lesson like the others, whose docstring is this module's."""
    figure = common.figure()
    figure.subplots().plot([1, 2], [3, 4])
    return Lesson([Finding("2 is more than 1.", True), Finding("3, too.")], figure)


MARKED = (
    "before\n<!-- python -m bench.course.test_course -->\nold\n<!-- end of test_course -->\nafter\n"
)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with a place for the lesson of these tests."""
    monkeypatch.setitem(course.LESSONS, "test_course", "Numbers")
    monkeypatch.setattr(sys.modules[__name__], "__doc__", "2 is more\nthan 1.\n\nBy\ncounting.\n")
    (tmp_path / "course.md").write_text(MARKED)
    return tmp_path


def test_a_lesson_fills_in_its_part_of_the_page(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert page.show(lesson_of_tests, False, docs)
    assert_drawn(docs / "course/test_course.png")
    script = "[test_course.py](../bench/course/test_course.py)"
    part = (
        f"## Numbers\n\n**2 is more than 1.** By counting. The script: {script}.\n\n- shown: 2 is more than 1.\n"
        "- also measured: 3, too.\n\n![Numbers](course/test_course.png)"
    )
    assert (docs / "course.md").read_text() == MARKED.replace("old", part)
    assert "  shown: 2 is more than 1.\n  also measured: 3, too.\n" in capsys.readouterr().out


def test_a_quick_lesson_leaves_the_page_alone(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "DOCS", docs)
    monkeypatch.setattr(sys, "argv", ["test_course", "--quick"])
    page.main(lesson_of_tests)
    assert (docs / "course.md").read_text() == MARKED
    assert [path.name for path in docs.iterdir()] == ["course.md"]
    saved = re.search(r"saved (.*)", capsys.readouterr().out)
    assert saved
    assert_drawn(Path(saved[1]))


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="docs/course.md has no .*bench.course.dropout"):
        page.filled("nothing", "dropout", "text")


def test_the_command_runs_the_lessons_that_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    monkeypatch.setattr(page, "show", lambda run, quick, folder: calls.append((run, quick)) or True)
    chosen = ["symmetry", "dropout"]
    monkeypatch.setattr(sys, "argv", ["bench", "course", "--quick", "--only", *chosen])
    command.main()
    assert calls == [(run_of("dropout"), True), (run_of("symmetry"), True)]
    assert "2 of 2 claims shown" in capsys.readouterr().out
    course.main([], True)
    assert len(calls) == 2 + len(course.LESSONS)
    with pytest.raises(LookupError, match="no lesson is called drop"):
        course.main(["drop"], True)


def test_every_lesson_is_on_the_list_and_short() -> None:
    folder = ROOT / "bench/course"
    scripts = {path.stem for path in folder.glob("*.py")} - {"__init__", "common", "page"}
    assert scripts == course.LESSONS.keys()
    for name in scripts:
        assert len((folder / f"{name}.py").read_text().splitlines()) < 100, name


@each_lesson
def test_the_page_has_the_lesson_as_it_is(name: str) -> None:
    text = (ROOT / "docs/course.md").read_text()
    part = text.split(f"<!-- python -m bench.course.{name} -->\n")[1]
    part = part.split(f"\n<!-- end of {name} -->")[0]
    _, claim, how = page.described(run_of(name))
    findings = re.findall(r"^- (.*)", part, re.M)
    assert part == page.block(name, claim, how, findings)
    assert findings[0].startswith("shown: ")
    assert not [finding for finding in findings if finding.startswith("not shown")]
    assert_drawn(ROOT / f"docs/course/{name}.png")
