"""The benchmark suite: no kernel without a case, wrong results found, verdicts, reports, figures from a file."""

import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from bench import (
    accuracy,
    capped,
    cliffs,
    costs,
    estimators,
    limits,
    memory,
    optim,
    peers,
    readme,
    reasons,
    registry,
    report,
    session,
    shapes,
    sharing,
    suite,
    timing,
    training,
)
from bench.case import Case, Problem, normal
from bench.plan import Plan
from bench.timing import Budget
from bench.verdict import interval, judge
from conftest import NO_FMA
from tests.reference.activations import FORMULAS, SLOPES, Mpfr

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/bench/results.json"
TINY = Plan((1000,), (1000,), ("float32", "float64"), (1,), 2, 0.0, 10, 3, 3, 1, 1)


# ---- cases ----


def test_every_public_kernel_has_a_case() -> None:
    named = {case.kernel.split()[0] for case in registry.cases()}
    assert registry.public_kernels() <= named


def test_a_kernel_without_a_case_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf, "__all__", [*nf.__all__, "swish_of_tomorrow"])
    with pytest.raises(LookupError, match="without a benchmark case: swish_of_tomorrow"):
        registry.cases()


def test_only_takes_kernels_and_families() -> None:
    assert [case.kernel for case in registry.cases(["tanh"])] == ["tanh"]
    chosen = {case.kernel for case in registry.cases(["optim", "batch_norm"])}
    variants = {"batch_norm", "batch_norm inference", "batch_norm images"}
    rules = {rule.name for rule in optim.RULES} | {"SGD list", "Adam list"}
    rules |= {"Adam bfloat16", "Adam uint8"}
    assert chosen == {*rules, *variants}
    with pytest.raises(LookupError, match="no kernel or family is called tahn"):
        registry.cases(["tahn"])


@pytest.mark.parametrize("case", registry.cases(), ids=lambda case: case.kernel)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_and_plain_numpy_compute_the_same(case: Case, dtype: str) -> None:
    problem = case.problem(1000, np.dtype(dtype))
    for call in (problem.forms() | problem.plain()).values():
        assert problem.check(call()) is None
    nothing = tuple(np.zeros_like(part) for part in problem.expected)
    assert problem.check(nothing) is not None


def doubled() -> Case:
    return Case("double", normal("x"), lambda x: 2 * x, lambda x: {"out": lambda: 2.001 * x})


def test_a_wrong_result_stops_the_suite() -> None:
    point = session.Point(doubled(), 100, "float32", 1)
    problem = point.case.problem(100, np.dtype(np.float32))
    with pytest.raises(AssertionError, match="nnfast, double float32 .*, out: off by"):
        session.gather(point, problem, [])


class WrongPeer:
    NAME, VERSION = "Wrong", "1"
    OPERATIONS = {  # noqa: RUF012
        "relu": lambda arrays, values: {"right": lambda: np.maximum(arrays["x"], 0)},
        "tanh": lambda arrays, values: {
            "right": lambda: np.tanh(arrays["x"]),
            "wrong": lambda: np.sinh(arrays["x"]),
        },
        "sigmoid": lambda arrays, values: {"shape": lambda: arrays["x"][:-1]},
    }

    @staticmethod
    def set_threads(n: int) -> bool:
        return n == 1


@pytest.mark.parametrize(
    ("kernel", "threads", "there", "faults"),
    [
        ("relu", 1, True, set()),
        ("relu", 2, False, set()),
        ("tanh", 1, True, {"Wrong wrong"}),
        ("sigmoid", 1, False, {"Wrong shape"}),
    ],
)
def test_peers_that_are_wrong_are_left_out(
    kernel: str, threads: int, there: bool, faults: set[str]
) -> None:
    point = session.Point(registry.case(kernel), 1000, "float32", threads)
    problem = point.case.problem(1000, np.dtype(np.float32))
    candidates, found = session.gather(point, problem, [WrongPeer])  # type: ignore[list-item]
    assert ("Wrong" in candidates) is there
    assert set(found) == faults
    assert {"NumPy", "nnfast out", "nnfast allocating"} <= set(candidates)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of how its losses take a mean
def test_operations_of_installed_peers_run() -> None:
    every = peers.load(peers.names())
    assert every
    for case in registry.cases():
        problem = case.problem(1000, np.dtype(np.float32))
        for peer in every:
            peer.set_threads(nf.get_num_threads())
            operation = peer.OPERATIONS.get(case.kernel, lambda arrays, values: {})
            for form, call in operation(problem.arrays, case.values).items():
                assert problem.check(call()) is None, f"{peer.NAME}, {case.kernel}, {form}"


def test_peers_that_are_not_installed_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numexpr", None)
    monkeypatch.delitem(sys.modules, "bench.peers.numexpr_", raising=False)
    assert peers.load(["numexpr"]) == []
    assert "left out: numexpr" in capsys.readouterr().out


def test_traffic_of_a_step_counts_what_it_reads_and_writes() -> None:
    problem = registry.case("Adam").problem(1000, np.dtype(np.float32))
    assert problem.bytes == 7 * 4000
    assert problem.working_set == 4 * 4000
    assert registry.case("relu").problem(1000, np.dtype(np.float64)).bytes == 2 * 8000


def test_every_cost_can_be_measured() -> None:
    cases = costs.all_cases()
    assert nf._core._costs().keys() <= cases.keys()
    for name in ("nll_loss_row", "norm_set", "row_pairs", "sigmoid_focal_loss"):
        cases[name](64)()


# ---- timing and verdicts ----


def test_settle_waits_for_threads_that_run() -> None:
    numbers = np.random.default_rng(0).random(5_000_000)
    ended: list[float] = []

    def work() -> None:
        np.sort(numbers)  # without the interpreter's lock, which a thread would sleep for
        ended.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    assert any(timing.others_run() for _ in range(1000))
    timing.settle(most=20)
    settled = time.monotonic()
    thread.join()
    assert settled > ended[0] - 0.01
    assert not timing.others_run()


def test_rounds_take_turns_and_keep_to_the_budget() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    times = timing.rounds(calls, Budget(seconds=0, least=4, most=9, slot_ns=0))
    assert [len(times[name]) for name in "abc"] == [4, 4, 4]
    turns = order[9:]  # three calls each to find how many fill a slot
    firsts = [turns[6 * i : 6 * i + 1] for i in range(4)]
    assert firsts == [["a"], ["b"], ["c"], ["a"]]


def test_a_beaten_peer_leaves_the_race_and_our_forms_do_not() -> None:
    def sleeper(seconds: float) -> timing.Call:
        return lambda: time.sleep(seconds)

    calls = {
        "ours": sleeper(0.02),
        "slow": sleeper(0.02),
        "near": sleeper(6e-3),
        "best": sleeper(5e-3),
    }
    budget = Budget(seconds=0, least=5, most=5, slot_ns=0)
    times = timing.rounds(calls, budget, stays=lambda name: name == "ours")
    assert {name: len(found) for name, found in times.items()} == {
        "ours": 5,
        "slow": timing.TRIAL,
        "near": 5,
        "best": 5,
    }


def test_only_what_a_session_leaves_in_doubt_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ratios = {"relu": 3.0, "elu": 1.2, "tanh": 0.3}
    asked: list[tuple[list[str], bool]] = []

    def lines(
        plan: Plan, keys: list[session.Key], peers: list[str], bar: Any, again: bool = False
    ) -> Iterator[dict[str, Any]]:
        asked.append(([key[0] for key in keys], again))
        yield {"cores": 2}
        for kernel, *_ in keys:
            times = {"nnfast out": [1.0] * 12, "NumPy": [ratios[kernel]] * 12, "Numba": [9.0] * 3}
            yield {"kernel": kernel, "times": times, "forms": dict.fromkeys(times, "out")}

    monkeypatch.setattr(suite, "lines", lines)
    keys: list[session.Key] = [(kernel, 1000, "float32", 1) for kernel in ratios]
    bar = types.SimpleNamespace(total=3)
    machine, rows = suite.measured(TINY, keys, [], bar)
    assert machine == {"cores": 2}
    assert asked == [(["relu", "elu", "tanh"], False), (["elu", "tanh"], True)]
    assert bar.total == 5
    assert [row["median"] for row in rows] == [3.0, 1.2, 0.3]
    assert [row["candidates"]["NumPy"]["rounds"] for row in rows] == [12, 24, 24]
    assert [row["peer"] for row in rows] == ["NumPy"] * 3


def test_sides_are_varied_one_at_a_time() -> None:
    plan = Plan((10, 100), (10,), ("float32", "float64"), (1, 2), 1, 0, 1, 1, 1, 1, 1)
    found = {point.key[1:] for point in session.points(plan, [registry.case("relu")])}
    assert found == {
        (10, "float32", 2),
        (100, "float32", 2),
        (10, "float32", 1),
        (10, "float64", 2),
    }


def sessions(factors: tuple[float, ...], spread: float = 0.01) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [factor * np.exp(rng.normal(0, spread, 12)) for factor in factors]


@pytest.mark.parametrize(
    ("factors", "spread", "verdict"),
    [
        ((2, 1.9), 0.01, "ahead"),
        ((0.5, 0.55), 0.01, "behind"),
        ((1.02, 0.98), 0.01, "level"),
        ((2, 0.5), 0.01, "noise"),  # the sessions do not agree
        ((1.3, 1.0), 0.01, "noise"),
        ((1.105, 1.105), 0.001, "noise"),  # too near to the border
        ((1.5, 1.5), 2.0, "noise"),  # the rounds do not agree
        ((1.0, 1.0), 0.5, "noise"),
    ],
)
def test_verdicts(factors: tuple[float, ...], spread: float, verdict: str) -> None:
    assert judge(sessions(factors, spread)).verdict == verdict


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    outside = 0
    for _ in range(2000):
        low, _, high = interval(np.exp(rng.normal(0, 1, 20)))
        outside += not low <= 1 <= high
    assert 0 < outside < 2 * 0.01 * 2000


def test_floor_is_that_of_the_fastest_kind() -> None:
    rates = [
        limits.Rate("copy", 1, 1000, 1e9),
        limits.Rate("triad", 1, 1000, 2e9),
        limits.Rate("copy", 1, 4000, 1e9),
    ]
    assert limits.floor_ns(rates, 1000, 1000, 1) == pytest.approx(500)
    assert limits.floor_ns(rates, 1000, 2000, 1) == pytest.approx(1000 / 1.5)
    assert limits.floor_ns(rates, 1000, 1000, 2) is None
    rates.append(limits.Rate("update", 1, 1000, 8e9))
    assert limits.floor_ns(rates, 1000, 1000, 1) == pytest.approx(500)
    assert limits.floor_ns(rates, 1000, 1000, 1, in_place=True) == pytest.approx(125)
    assert limits.best(rates, [limits.Rate("copy", 1, 1000, 3e9)])[0].rate == 3e9


# ---- a run and its report ----


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """A short run of three kernels."""
    found = suite.run(TINY, ["relu", "svm_loss", "Adagrad"], [])
    return json.loads(json.dumps(suite.rounded(found)))


def test_a_run_holds_everything(result: dict[str, Any]) -> None:
    assert len(result["points"]) == 6
    assert result["machine"]["versions"]["nnfast"] == nf.__version__
    for row in result["points"]:
        assert row["peer"] == "NumPy"
        assert row["verdict"] in ("ahead", "level", "behind", "noise")
        assert row["low"] <= row["median"] <= row["high"]
        assert all(found["median"] > 0 for found in row["candidates"].values())
    kinds = {rate["kind"] for rate in result["limits"]}
    assert {"read", "copy", "triad"} <= kinds
    assert all(row["share"] > 0 for row in result["points"])


def test_the_table_has_a_line_a_point(result: dict[str, Any]) -> None:
    text = "\n".join(report.lines(result))
    for row in result["points"]:
        assert f"{row['kernel']:22}{row['dtype']:>8}" in text
    assert " of 6" in text


def test_the_page_lists_every_point_below_one_with_its_reason(result: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(result))
    kinds = ("relu", 0.93, 0.95), ("svm_loss", 0.3, 0.3), ("Adagrad", 0.3, 0.5)
    for row in changed["points"]:
        row["median"], row["share"] = next(kind[1:] for kind in kinds if kind[0] == row["kernel"])
    changed["points"] += [row | {"median": 1.01} for row in changed["points"]]
    page = report.page(changed)
    assert "6 of 12; no reason known for 2." in page
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(listed) == 6
    for line in listed:
        wanted = {
            "relu": "At 95% of the machine's limit.",
            "svm_loss": reasons.UNKNOWN,
            "Adagrad": next(each.text for each in reasons.REASONS if "all of optim" in each.names),
        }
        assert wanted[line.split("`")[1]] in line
    assert all(line in page for line in report.lines(changed))


def test_the_page_sums_up_families() -> None:
    rows = [
        {"family": family, "dtype": "float32", "kernel": "relu", "n": 1000, "median": ratio}
        for family, ratio in (("a", 2.0), ("a", 0.5), ("b", 8.0))
    ]
    assert list(report.families(rows))[2:] == [
        "| a | float32 | 2 | 1.00 | 0.50 `relu` at 1,000 | 1 |",
        "| b | float32 | 1 | 8.00 | 8.00 `relu` at 1,000 | 0 |",
        "| all | float32 | 3 | 2.00 | 0.50 `relu` at 1,000 | 1 |",
    ]


def test_reasons_are_of_kernels_that_there_are() -> None:
    cases = registry.cases()
    names = {
        name
        for c in cases
        for name in (c.kernel, c.kernel.split()[0], f"all of {registry.family(c)}")
    }
    for each in reasons.REASONS:
        assert each.names <= names
        assert each.least <= each.most


def test_a_run_goes_on_with_the_families_that_are_missing(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "measure", lambda threads, milliseconds: [])
    begun = json.loads(json.dumps(result))
    begun["points"] = [row for row in begun["points"] if row["family"] != "losses"]
    begun["commit"] = "an earlier one"
    saved: list[set[str]] = []

    def save(state: dict[str, Any]) -> None:
        saved.append({row["kernel"] for row in state["points"]})

    found = suite.run(TINY, ["relu", "svm_loss", "Adagrad"], [], begun, save)
    assert saved == [{"relu", "svm_loss", "Adagrad"}]
    assert found["commit"] == f"an earlier one, {suite.commit()}"
    kept = [row for row in result["points"] if row["kernel"] == "relu"]
    again = [row for row in found["points"] if row["kernel"] == "relu"]
    assert [row["candidates"] for row in again] == [row["candidates"] for row in kept]
    assert [row["kernel"] for row in found["points"]] == [row["kernel"] for row in result["points"]]
    assert all(row["share"] > 0 for row in found["points"])
    with pytest.raises(ValueError, match="by the plan that it was begun with"):
        suite.run(TINY._replace(sessions=3), ["relu"], [], begun)
    begun["machine"]["processor"] = "another"
    with pytest.raises(ValueError, match="on the machine that it was begun on"):
        suite.run(TINY, ["svm_loss"], [], begun)


def test_a_capped_process_has_no_wider_instructions() -> None:
    code = (
        "import nnfast, numpy._core._multiarray_umath as umath;"
        "print(nnfast.cpu_info()['chosen'], umath.__cpu_features__.get('X86_V4'),"
        "[library['kernels'] for library in nnfast.cpu_info()['blas']])"
    )
    if capped.ISA not in nf.cpu_info()["supported"]:
        assert not capped.is_capped()
        return
    command = [sys.executable, "-W", "error", "-c", code]
    printed = subprocess.check_output(command, text=True, env=capped.environment())
    assert printed.split()[:2] == [capped.ISA, "False"]
    assert "SkylakeX" not in printed


def slowed(result: dict[str, Any], kernel: str, factor: float) -> dict[str, Any]:
    """The run, had one kernel taken longer."""
    changed = json.loads(json.dumps(result))
    for row in changed["points"]:
        if row["kernel"] == kernel:
            for name, found in row["candidates"].items():
                found["median"] *= factor if name.startswith("nnfast") else 1
    return changed


def test_compare_finds_what_got_slower(result: dict[str, Any]) -> None:
    text = "\n".join(report.compare(result, slowed(result, "relu", 2)))
    assert "slower: 2 of 6" in text
    assert "faster: 0 of 6" in text
    text = "\n".join(report.compare(slowed(result, "Adagrad", 2), result))
    assert "slower: 0 of 6" in text
    assert "faster: 2 of 6" in text


def test_compare_blames_a_slow_machine_on_nobody(result: dict[str, Any]) -> None:
    slow = json.loads(json.dumps(result))
    for row in slow["points"]:
        for found in row["candidates"].values():
            found["median"] *= 3
    text = "\n".join(report.compare(result, slow))
    assert "slower: 0 of 6" in text


def test_pictures_are_saved(result: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image

    from bench import plots

    row = {"network": "2-2", "kind": "dense", "data": "digits", "batch": 1}
    row["candidates"] = {"nnfast": {"seconds": 0.1, "accuracy": 0.5}}
    made = plots.save(result | {"training": [row]}, tmp_path)
    assert [path.name for path in made] == ["throughput.png", "ratios.png", "training.png"]
    for path in made:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # a blank page has one


@pytest.mark.checkout
@pytest.mark.parametrize("name", readme.PAGES)
def test_pages_have_the_figures_of_the_files(name: str) -> None:
    text = (ROOT / name).read_text()
    saved = readme.load(RESULTS)
    assert readme.filled(text, saved, name) == text
    saved.whole["machine"]["processor"] = "another"
    assert readme.filled(text, saved, name) != text
    with pytest.raises(ValueError, match=f"{name} has no"):
        readme.filled("no markers", saved, name)


@pytest.mark.checkout
def test_performance_has_the_figures_of_avx2() -> None:
    saved = readme.load(RESULTS)
    assert saved.avx2["machine"]["isa"] == capped.ISA
    page = (ROOT / "docs/performance.md").read_text()
    saved.avx2["machine"]["processor"] = "another"
    assert readme.filled(page, saved, "docs/performance.md") != page


@pytest.mark.checkout
def test_the_readme_has_ten_rows() -> None:
    rows = [line for line in readme.block(readme.load(RESULTS)).splitlines() if "| `" in line]
    assert len(rows) == len(readme.TEN) == 10


@pytest.mark.checkout
@pytest.mark.parametrize("folder", [RESULTS.parent, RESULTS.parent / "avx2"], ids=["all", "avx2"])
def test_the_page_is_that_of_the_file(folder: Path) -> None:
    saved = json.loads((folder / "results.json").read_text())
    assert (folder / "report.md").read_text() == report.page(saved)


@pytest.mark.checkout
def test_the_report_says_which_blas_kernels_ran(result: dict[str, Any]) -> None:
    header = next(report.lines(result))
    for library in nf.cpu_info()["blas"]:
        assert f"with its {library['kernels']} kernels on {library['threads']} threads" in header
        assert library["path"] not in json.dumps(result)
    saved = readme.load(RESULTS)
    saved.whole["machine"] = result["machine"]
    assert f"(BLAS: {report.blas(result['machine'])})," in readme.block(saved)
    assert report.blas({}) == "a BLAS that says nothing of itself"


@pytest.mark.checkout
def test_the_model_of_a_cluster_is_on_the_page() -> None:
    from bench import cluster  # Dask's

    costs = cluster.Costs(1e-9, 1e-9, 1e-10, 1e-3, 1e-9, 1e-3)
    text = cluster.figures(costs, "another processor")
    page = (ROOT / "docs/dask.md").read_text()
    assert text in cluster.filled(page, text)
    assert cluster.filled(page, text) != page
    # Without a cost of messages more workers always pay, and with nothing else never.
    free = costs._replace(merge=0, call=0, byte=-8e-10, plan=0)
    assert cluster.smallest(free, 8192, 256) == pytest.approx(1000)
    assert cluster.smallest(costs._replace(compute=0), 8192, 8) is None
    assert cluster.seconds(free, 1e6, 8192, 1) / cluster.seconds(free, 1e6, 8192, 8) > 7.9


# ---- training ----

SMALL = training.Task("digits", (64, 16, 10), 32)


def test_training_shares_the_threads_of_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TASKS", [SMALL])
    with nf.share_blas_threads() as sharing:
        possible = bool(sharing)
    rows = training.run(True, [])
    assert [row["shares_blas_threads"] for row in rows] == [possible] * 2
    assert [set(row["candidates"]) for row in rows] == [{"nnfast", "NumPy"}] * 2
    head = readme.training(rows)[0]
    assert (", the BLAS on nnfast's threads |" in head) is possible


def test_training_goes_without_peers_that_are_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    found = training.trainings(SMALL, "dense", 1, ["pytorch", "xla"], 0)
    assert set(found) == {"nnfast", "NumPy", "scikit-learn"}
    printed = capsys.readouterr().out
    for name in ("PyTorch", "torch.compile", "JAX"):
        assert f"left out: the training of {name} (" in printed


@pytest.mark.peers
def test_training_goes_without_a_compiler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def no_compiler(*args: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda function: no_compiler)
    found = training.trainings(SMALL, "dense", 1, ["pytorch"], 0)
    assert set(found) == {"nnfast", "NumPy", "PyTorch", "scikit-learn"}
    assert "training of torch.compile (torch.compile: No working" in capsys.readouterr().out


# ---- sharing ----


def test_sharing_prints_a_line_for_each_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SIZES", [32, 32, 16, 10])
    sharing.main(rounds=1)
    lines = capsys.readouterr().out.splitlines()
    with nf.share_blas_threads() as possible:
        if not possible:
            assert lines == [f"NumPy's BLAS cannot share threads here: {possible.reason}"]
            return
    values = [[float(cell) for cell in line.split()[-2:]] for line in lines[1:-1]]
    assert len(values) == 8
    assert min(min(pair) for pair in values) > 0
    assert lines[-1].startswith("products, shared over own: ")


def test_products_of_a_step_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    matmul = np.matmul

    def recorded(a: Any, b: Any, *args: Any, **options: Any) -> Any:
        seen.append((a.shape, b.shape))
        return matmul(a, b, *args, **options)

    step, products = sharing.network()[1], sharing.products()
    monkeypatch.setattr(np, "matmul", recorded)
    step()
    of_step, seen = seen, []
    products()
    assert sorted(seen) == sorted(of_step)
    assert len(seen) == 8


# ---- training ----


def test_a_peer_that_does_not_learn_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"nnfast": {"loss": 0.1}, "PyTorch": {"loss": 0.2}, "torch.compile": {"loss": np.nan}}
    assert list(training.those_that_learn(rows, "64-10")) == ["nnfast", "PyTorch"]
    assert capsys.readouterr().out == "left out: torch.compile for 64-10: its loss is nan\n"
    with pytest.raises(AssertionError, match="64-10"):
        training.those_that_learn({"nnfast": {"loss": np.inf}}, "64-10")


# ---- accuracy ----


def test_every_activation_has_its_formulas() -> None:
    assert set(FORMULAS) == set(SLOPES) == set(nf.activations.TABLE)


def test_sampled_accuracy_is_what_the_tests_promise() -> None:
    found = accuracy.narrow("tanh", np.float32, 100_003)["nnfast"]
    assert found.points > 40_000
    bound = 2 if nf.cpu_info()["chosen"] == NO_FMA else 1
    assert 0.5 < found.largest <= bound
    assert found.mean < 0.1


def test_rows_of_some_kernels_take_their_place_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = iter([10, 20, 30])

    def rows(names: list[str], every: bool) -> Any:
        for name in names:
            yield name, "float32", {"nnfast": accuracy.Error(1.0, 0.0, 0.0, next(points))}

    monkeypatch.setattr(accuracy, "rows", rows)
    page = tmp_path / "accuracy.md"
    accuracy.main(["tanh", "elu"], output=page)
    accuracy.main(["tanh"], output=page)
    found = [row for row in page.read_text().splitlines() if row.startswith("| `")]
    assert [row.split(" | ")[:3] for row in found] == [
        ["| `tanh`", "float32", "30"],
        ["| `elu`", "float32", "20"],
    ]


def test_chunks_meet_every_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "CHUNK", 2**28 + 17)
    monkeypatch.setattr(accuracy, "BLOCK", 100)
    found = accuracy.narrow("relu", np.float32, 1_000_003)["nnfast"]
    bits = np.arange(0, 2**32, 1_000_003, dtype=np.uint64).astype(np.uint32)
    assert found.points == np.isfinite(bits.view(np.float32)).sum()


def test_float64_against_mpfr() -> None:
    found = accuracy.wide("elu")["nnfast"]
    assert found.largest <= (2 if nf.cpu_info()["chosen"] == NO_FMA else 1)
    shifted = Mpfr().of(lambda m, x: m.tanh(x) * (1 + 2.0**-52), np.array([0.5]))
    assert 0.5 < float(abs(shifted - np.tanh(np.longdouble(0.5)))[0]) / 2.0**-53 < 2.5


def test_problem_checks_dropout_by_its_kind() -> None:
    problem: Problem = registry.case("dropout").problem(10_000, np.dtype(np.float32))
    x = problem.arrays["x"]
    assert "keeps" in str(problem.check((x, None)))
    kept = np.where(np.arange(x.size) % 5 == 0, 0, x)
    assert "not x / (1 - p)" in str(problem.check((kept, None)))
    numbers: Problem = registry.case("random.normal").problem(10_000, np.dtype(np.float32))
    assert "has mean" in str(numbers.check(np.full(10_000, 0.1)))


def test_environment_is_left_alone() -> None:
    before = dict(os.environ)
    peers.load([])
    assert dict(os.environ) == before


def test_shapes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shapes, "BATCHES", [(8, 4), (2, 3, 2, 2)])
    monkeypatch.setattr(shapes, "ROWS", (4, 8))
    monkeypatch.setattr(shapes, "BUDGET", Budget(0, 1, 1, 0))
    rate = limits.Rate("copy", nf.get_num_threads(), 4096, 1e9)
    monkeypatch.setattr(limits, "measure", lambda *_: [rate])
    shapes.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 3 + 3
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["batch_norm", what] for what in ("forward", "inference", "backward")
    ]
    # 8 x 4 floats read and written at 1 GB/s take 0.256 microseconds.
    out, times_limit = float(lines[1].split()[3]), float(lines[1].split()[-1])
    assert times_limit == pytest.approx(out / 0.256, rel=0.05)


def test_estimators(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def small(name: str) -> Any:
        rng = np.random.default_rng(len(name))
        return lambda return_X_y: (rng.standard_normal((60, 3)), np.arange(60) % 2)

    monkeypatch.setattr(estimators, "DATA", {name: small(name) for name in ("one", "other")})
    monkeypatch.setattr(estimators, "DRAWS", 2)
    estimators.main(seeds=1)
    lines = capsys.readouterr().out.splitlines()
    tasks = ["one", "other", "one, search of 2", "other, search of 2"]
    assert [line[:28].strip() for line in lines[1::2]] == tasks
    for line, other in zip(lines[1::2], lines[2::2], strict=True):
        assert line[28:].split()[0] == "NNClassifier"
        assert other[28:].split()[0] == "MLPClassifier"
        assert 1.0 in {float(line.split()[-1]), float(other.split()[-1])}


def test_estimators_are_scored_on_what_they_have_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that nothing tells: what remembers them all guesses one in two of others."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((200, 50)), rng.integers(0, 2, 200)
    monkeypatch.setattr(estimators, "DATA", {"noise": lambda return_X_y: data})
    rows = estimators.defaults("noise", seeds=1)
    assert list(rows) == ["NNClassifier", "MLPClassifier"]
    for row in rows.values():
        assert len(row.accuracies) == len(row.seconds) == 5
        assert abs(np.mean(row.accuracies) - 0.5) < 0.2


# ---- cliffs ----


def test_a_cliff_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros(20_000)

    def times(n: int) -> Any:
        return lambda x: [np.negative(x) for _ in range(n)]

    def planted(_: list[str]) -> Any:
        yield cliffs.form("level", "of ones", times(1), x, times(1))
        yield cliffs.form("steep", "of many", times(1), x, times(40))
        yield cliffs.form("steep", "of few elements", times(1), x, times(1), x[:200])

    monkeypatch.setattr(cliffs, "forms", planted)
    assert not cliffs.main([])
    lines = capsys.readouterr().out.splitlines()
    assert ["ABOVE" in line for line in lines] == [False, True, True, False]
    assert lines[-1].startswith("2 above 3 times the plain call, 2 of them not known")
    monkeypatch.setattr(cliffs, "KNOWN", (("stee", "of"),))
    assert cliffs.main([])


def test_every_form_of_the_sweep_can_be_called() -> None:
    found = [*cliffs.parameter_forms(), *cliffs.axis_forms()]
    for form in found[:: len(found) // 40]:
        form.plain()
        form.call()
    layouts = {form.form for form in cliffs.layout_forms(registry.case("relu"))}
    assert layouts == set(cliffs.LAYOUTS)


# ---- memory ----


def test_memory_prints_a_line_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(10**5)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line[:28].rstrip() for line in lines] == list(memory.SETTINGS)
    assert all(float(value) > 0 for line in lines for value in line[28:].split())
