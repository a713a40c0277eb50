"""How the fuzzer is run.

PYTHONPATH=tests python -m fuzz replay              the kept inputs, and some for what is new: needs no fuzzer
PYTHONPATH=tests python -m fuzz leaks               the same again and again: what stays allocated
PYTHONPATH=tests python -m fuzz run FOLDER [...]    by coverage, into a folder; the rest is libFuzzer's
PYTHONPATH=tests python -m fuzz keep FOLDER         what a folder's inputs add goes into corpus.txt
PYTHONPATH=tests python -m fuzz one NAME HEX        a single call
"""

import faulthandler
import gc
import resource
import sys
import time
from pathlib import Path

COMMANDS = ("replay", "leaks", "run", "keep", "one")
# Above what the process has: an array of any more is refused, not made.
ROOM = 1 << 30
SECONDS = 30


def limit_memory() -> None:
    """An array of more elements than there is memory is an error here, not a machine that swaps."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def replay() -> None:
    """Every kept input once, and a few drawn ones."""
    from fuzz import corpus
    from fuzz.call import Caller

    limit_memory()
    caller, begin = Caller(), time.monotonic()
    for target, data in corpus.kept() + corpus.drawn(8):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            caller.run(target, data)
        except BaseException:
            print(f"python -m fuzz one {target.name} {data.hex()}", file=sys.stderr)
            raise
    faulthandler.cancel_dump_traceback_later()
    print(f"{caller.calls} calls, {caller.returned} returned, {time.monotonic() - begin:.1f} s")


def leaks() -> None:
    """The inputs of each target again and again."""
    from fuzz import corpus
    from fuzz.call import Caller
    from fuzz.leaks import left_behind

    limit_memory()
    caller = Caller()
    by_target: dict[str, list[corpus.Entry]] = {}
    for entry in corpus.kept() + corpus.drawn(2):
        by_target.setdefault(entry[0].name, []).append(entry)
    wrong = []
    gc.freeze()  # what is there already need not be looked through again and again
    for name, entries in by_target.items():
        blocks, used = left_behind(lambda entries=entries: [caller.run(*e) for e in entries])
        if blocks > 0 or used > 0:
            wrong.append(f"{name}: {blocks} blocks, {used} bytes a round of {len(entries)} calls")
    print("\n".join(wrong) or f"nothing is left of {caller.calls} calls")
    sys.exit(bool(wrong))


def run(folder: Path, options: list[str]) -> None:
    """By coverage of the Python code, and of the module where it is built for it (.ci/sanitize fuzz)."""
    import atheris

    with atheris.instrument_imports(include=["nnfast"]):
        import nnfast
        from fuzz import corpus
        from fuzz.call import Caller
    assert nnfast
    folder.mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(corpus.kept() + corpus.drawn(2)):
        (folder / f"kept-{number}").write_bytes(corpus.encoded(entry))
    caller = Caller()
    if (
        "asan" not in Path("/proc/self/maps").read_text()
    ):  # which reserves terabytes, and has a limit of its own
        limit_memory()

    def call(data: bytes) -> None:
        caller.run(*corpus.decoded(data))

    limits = [f"-timeout={SECONDS}", "-max_len=160", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], str(folder), *limits, *options], call)
    atheris.Fuzz()


def keep(folder: Path) -> None:
    """Those that reach a line, or end in a way, that no shorter one does."""
    from fuzz import corpus
    from fuzz.features import features

    limit_memory()
    entries = corpus.kept() + [corpus.decoded(path.read_bytes()) for path in folder.iterdir()]
    entries.sort(key=lambda entry: len(entry[1]))
    seen: set[object] = set()
    chosen = []
    for entry in entries:
        new = features(*entry) - seen
        if new:
            chosen.append(entry)
            seen |= new
    corpus.write(chosen)
    print(f"{len(chosen)} of {len(entries)} kept")


def main() -> None:
    """One of the commands."""
    faulthandler.enable()
    match sys.argv[1:]:
        case ["replay"]:
            replay()
        case ["leaks"]:
            leaks()
        case ["run", folder, *options]:
            run(Path(folder), options)
        case ["keep", folder]:
            keep(Path(folder))
        case ["one", name, data]:
            from fuzz.call import Caller
            from fuzz.targets import targets

            Caller().run(targets()[name], bytes.fromhex(data))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
