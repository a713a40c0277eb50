"""What becomes of a lesson: it is printed, drawn, and put on docs/course.md."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from bench import plots, readme
from bench.course import LESSONS
from bench.course.common import Lesson

DOCS = Path(__file__).parents[2] / "docs"
Run = Callable[[bool], Lesson]


def show(run: Run, quick: bool, folder: Path) -> bool:
    """Run a lesson, print what it found, draw its picture in a folder, and at full size fill in the course.md there.

    Returns whether the claim was shown.
    """
    name, claim, how = described(run)
    begin = perf_counter()
    lesson = run(quick)
    print(f"\n{claim} ({name}, {perf_counter() - begin:.1f} s)")
    for finding in lesson.findings:
        print(f"  {finding}")
    picture = folder / "course" / f"{name}.png"
    picture.parent.mkdir(exist_ok=True)
    plots.write(lesson.figure, picture)
    print(f"  saved {picture}")
    if not quick:
        path = folder / "course.md"
        path.write_text(filled(path.read_text(), name, block(name, claim, how, lesson.findings)))
    return lesson.shown


def folder_for(quick: bool) -> Path:
    """docs, or a temporary folder for what is not to be kept."""
    return Path(tempfile.mkdtemp(prefix="nnfast-")) if quick else DOCS


def described(run: Run) -> tuple[str, str, str]:
    """A lesson's name, its claim and how that is tried: the two paragraphs of its docstring."""
    module = sys.modules[run.__module__]
    claim, how = (" ".join(part.split()) for part in str(module.__doc__).split("\n\n"))
    return Path(str(module.__file__)).stem, claim, how


def block(name: str, claim: str, how: str, findings: Sequence[object]) -> str:
    """A lesson on the page."""
    found = "\n".join(f"- {finding}" for finding in findings)
    script = f"[{name}.py](../bench/course/{name}.py)"
    return (
        f"## {LESSONS[name]}\n\n**{claim}** {how} The script: {script}.\n\n{found}\n\n"
        f"![{LESSONS[name]}](course/{name}.png)"
    )


def filled(page: str, name: str, text: str) -> str:
    """The page with a lesson's part between its markers."""
    begin, end = f"<!-- python -m bench.course.{name} -->", f"<!-- end of {name} -->"
    return readme.put(page, begin, end, text, "docs/course.md")


def main(run: Run) -> None:
    """The command line of a lesson."""
    parser = argparse.ArgumentParser(description=described(run)[1])
    parser.add_argument("--quick", action="store_true", help="a small size; docs stay as they are")
    quick = parser.parse_args().quick
    show(run, quick, folder_for(quick))
