"""How the fuzzer is run.

PYTHONPATH=tests python -m fuzz replay              the kept inputs, and some for what is new: needs no fuzzer
PYTHONPATH=tests python -m fuzz leaks               the same again and again: what stays allocated
PYTHONPATH=tests python -m fuzz run FOLDER [...]    by coverage, into a folder; the rest is libFuzzer's
PYTHONPATH=tests python -m fuzz keep FOLDER         what a folder's inputs add goes into corpus.txt
PYTHONPATH=tests python -m fuzz one NAME HEX        a single call
PYTHONPATH=tests python -m fuzz sequences SECONDS [SEED]     sequences of calls on objects that keep state, drawn
PYTHONPATH=tests python -m fuzz sequence NAME HEX   a single sequence
PYTHONPATH=tests python -m fuzz keep-sequences N    of N drawn ones those that add something, into sequences.txt
"""

import faulthandler
import gc
import random
import resource
import sys
import time
from pathlib import Path

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
    from fuzz import corpus, sequences
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
    for name, data in corpus.kept_sequences():
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            sequences.run(name, data)
        except BaseException:
            print(f"python -m fuzz sequence {name} {data.hex()}", file=sys.stderr)
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


def draw_sequences(seconds: float, seed: int) -> None:
    """Random ones until the time is over; each kind of failure is shown once."""
    from fuzz import sequences

    rng, begin = random.Random(seed), time.monotonic()
    count, returned, failures = 0, 0, set()
    while time.monotonic() - begin < seconds:
        name, data = rng.choice(sequences.SHARES), rng.randbytes(rng.randrange(8, 90))
        faulthandler.dump_traceback_later(20 * SECONDS, exit=True)  # others may have the cores
        try:
            returned += sequences.run(name, data)
        except Exception as error:
            kind = name, type(error), str(error)[:80]
            if kind not in failures:
                print(f"python -m fuzz sequence {name} {data.hex()}\n{error!r}", flush=True)
            failures.add(kind)
        count += 1
        if count % 1000 == 0:
            print(f"{count} sequences, {time.monotonic() - begin:.0f} s", flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(f"{count} sequences, {returned} calls returned, {len(failures)} kinds of failures")
    sys.exit(bool(failures))


def keep_sequences(count: int) -> None:
    """Those that reach a line that none before does."""
    from fuzz import corpus, sequences
    from fuzz.features import lines

    rng = random.Random(0)
    drawn = [
        (rng.choice(sequences.SHARES), rng.randbytes(rng.randrange(8, 90))) for _ in range(count)
    ]
    seen: set[object] = set()
    chosen = []
    for name, data in corpus.kept_sequences() + drawn:
        new = lines(sequences.run, name, data) - seen
        if new:
            chosen.append((name, data))
            seen |= new
    corpus.write_sequences(chosen)
    print(f"{len(chosen)} kept")


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
        case ["sequences", seconds, *seed]:
            draw_sequences(float(seconds), int(*seed) if seed else 0)
        case ["sequence", name, data]:
            from fuzz import sequences

            sequences.run(name, bytes.fromhex(data))
        case ["keep-sequences", count]:
            keep_sequences(int(count))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
