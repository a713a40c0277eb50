"""``python -m bench``: every kernel beside its peers and the machine's limit; other commands below."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nnfast as nf
from bench import (
    accuracy,
    calls,
    capped,
    cliffs,
    convolution,
    costs,
    course,
    examples,
    memory,
    peers,
    plots,
    readme,
    report,
    session,
    shapes,
    sharing,
    suite,
    threading,
    training,
)
from bench import plan as plans
from bench.plan import Plan


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add_suite(top)
    commands = top.add_subparsers(dest="command", title="other commands")
    comparison = commands.add_parser("compare", help="what got slower between two runs")
    comparison.add_argument("old", type=Path)
    comparison.add_argument("new", type=Path)
    table = commands.add_parser("accuracy", help="ULP of every elementwise kernel and of peers")
    table.add_argument("--all", action="store_true", help="all 2**32 float32 inputs, not a sample")
    table.add_argument("--only", nargs="+", metavar="NAME", help="kernels")
    table.add_argument(
        "--output", type=Path, help="Markdown file for the table, or for the rows of --only"
    )
    again = commands.add_parser("report", help="write the page of a run anew, beside its file")
    again.add_argument("results", type=Path)
    figures = commands.add_parser(
        "readme", help="put the figures of a run, and of avx2/ beside it, into README.md and docs"
    )
    figures.add_argument("results", type=Path)
    lessons = commands.add_parser("course", help="the claims of a course, for docs/course.md")
    lessons.add_argument("--quick", action="store_true", help="small sizes; docs stay as they are")
    lessons.add_argument("--only", nargs="+", metavar="NAME", help="lessons")
    edges = commands.add_parser(
        "cliffs", help="forms of arguments that cost over 3 times the plain"
    )
    edges.add_argument("--only", nargs="+", metavar="NAME", help="kernels")
    commands.add_parser(
        "cluster", help="what a step costs on Dask's workers, for docs/dask.md: ten seconds"
    )
    commands.add_parser("calls", help="what a call and the import cost")
    commands.add_parser("costs", help="what kernels cost, beside the figures of cpp/ops/costs.hpp")
    commands.add_parser("memory", help="what the memory of a large result costs")
    commands.add_parser("shapes", help="normalization at the shapes of networks")
    commands.add_parser("convolutions", help="convolution at the shapes of networks")
    commands.add_parser("threading", help="both threading runtimes between matrix products")
    commands.add_parser("sharing", help="threads shared with the BLAS, or not, in a training step")
    epochs = commands.add_parser("training", help="whole training beside PyTorch and JAX")
    epochs.add_argument("--quick", action="store_true", help="few epochs, one seed")
    networks = commands.add_parser("estimators", help="NNClassifier beside MLPClassifier")
    networks.add_argument("--seeds", type=int, default=5, help="repetitions of everything")
    ports = commands.add_parser("examples", help="docs/examples in NumPy and over nnfast")
    ports.add_argument("--only", nargs="+", metavar="NAME", help="examples")
    commands.add_parser("session", help="what the suite starts").add_argument("task")
    return top


def add_suite(top: argparse.ArgumentParser) -> None:
    """Options of the suite."""
    top.add_argument("--quick", action="store_true", help="two sizes, float32: two minutes")
    top.add_argument(
        "--every", action="store_true", help="each size in each dtype and thread count"
    )
    top.add_argument("--only", nargs="+", metavar="NAME", help="kernels or families")
    top.add_argument(
        "--peers", nargs="*", metavar="NAME", help=f"of {', '.join(peers.names())}; none if empty"
    )
    top.add_argument("--sizes", nargs="+", type=float, metavar="N", help="elements, as 1e8")
    top.add_argument(
        "--resume", action="store_true", help="go on with the run whose results are in the folder"
    )
    top.add_argument(
        "--avx2",
        action="store_true",
        help="nnfast and its peers without AVX-512, as far as they can",
    )
    top.add_argument(
        "--output", type=Path, default=Path("bench-results"), help="folder for JSON and plots"
    )


def run_suite(options: argparse.Namespace) -> None:
    """Measure, print, save."""
    threads = nf.get_num_threads()
    plan = plans.quick(threads) if options.quick else plans.full(threads)
    if options.sizes:
        sizes = tuple(int(size) for size in options.sizes)
        plan = plan._replace(sizes=sizes, side_sizes=sizes)
    if options.every:
        plan = plan._replace(side_sizes=plan.sizes)
    expected = options.peers
    if expected is None:  # JAX takes longer to compile than a quick run to measure
        expected = [name for name in peers.names() if not (options.quick and name == "xla")]
    if unknown := set(expected) - set(peers.names()):
        raise LookupError(f"no peer is called {', '.join(sorted(unknown))}")
    if options.avx2:
        if not capped.is_capped():
            raise SystemExit(
                subprocess.call([sys.executable, *sys.orig_argv[1:]], env=capped.environment())
            )
        expected = [name for name in expected if name not in capped.uncapped()]
    path = options.output / RESULTS
    begun = load(path) if options.resume and path.exists() else None

    def keep(result: dict[str, Any]) -> None:
        save_results(result, options.output)

    result = suite.run(plan, options.only or [], expected, begun, keep)
    if not options.only and "training" not in result:
        result["training"] = training.run(options.quick, expected)
    print("\n".join(report.lines(result)))
    save(result, options.output)


RESULTS = "results.json"


def save_results(result: dict[str, Any], folder: Path) -> None:
    """The figures alone."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "results.part"
    part.write_text(json.dumps(suite.rounded(result), indent=None) + "\n")
    os.replace(part, folder / RESULTS)


def save(result: dict[str, Any], folder: Path) -> None:
    """The figures, the plots and the page."""
    save_results(result, folder)
    for picture in plots.save(result, folder):
        print(f"saved {picture}")
    save_page(result, folder)
    print(f"saved {folder / RESULTS}")


def save_page(result: dict[str, Any], folder: Path) -> None:
    """The table and the points below 1.0, for docs."""
    path = folder / "report.md"
    path.write_text(report.page(result))
    print(f"saved {path}")


def load(path: Path) -> Any:
    """A run's results."""
    return json.loads(path.read_text())


def main() -> None:
    """Dispatch."""
    options = parser().parse_args()
    match options.command:
        case "compare":
            print("\n".join(report.compare(load(options.old), load(options.new))))
        case "accuracy":
            accuracy.main(options.only, options.all, options.output)
        case "report":
            save_page(load(options.results), options.results.parent)
        case "readme":
            readme.write(readme.load(options.results))
        case "session":
            task = json.loads(options.task)
            session.main(Plan(*task["plan"]), task["points"], task["peers"], task["again"])
        case "course":
            course.main(options.only or [], options.quick)
        case "cliffs":
            if not cliffs.main(options.only or []):
                raise SystemExit(1)
        case "cluster":
            # Not imported above: distributed starts threads, which would share the cores of other commands.
            from bench import cluster

            cluster.main()
        case "calls":
            calls.main()
        case "costs":
            costs.main()
        case "memory":
            memory.main()
        case "shapes":
            shapes.main()
        case "convolutions":
            convolution.main()
        case "threading":
            threading.main()
        case "training":
            print("\n".join(readme.training(training.run(options.quick, peers.names()))))
        case "sharing":
            sharing.main()
        case "examples":
            examples.main(options.only or [])
        case "estimators":
            # Not for the suite, which scikit-learn's OpenMP is not to meet.
            from bench import estimators

            estimators.main(options.seeds)
        case _:
            run_suite(options)


if __name__ == "__main__":
    main()
