"""Inputs that are kept: a line each, the target's name and the bytes in hexadecimal."""

import random
from collections.abc import Iterable
from pathlib import Path

from fuzz.targets import Target, targets

PATH = Path(__file__).parent / "corpus.txt"
SEQUENCES = PATH.with_name("sequences.txt")
Entry = tuple[Target, bytes]


def kept() -> list[Entry]:
    """Those of targets that are still there."""
    known = targets()
    lines = PATH.read_text().splitlines() if PATH.exists() else []
    pairs = (line.split() for line in lines)
    return [(known[name], bytes.fromhex(data)) for name, data in pairs if name in known]


def write(entries: Iterable[Entry]) -> None:
    """Keep these."""
    lines = sorted({f"{target.name} {data.hex() or '00'}\n" for target, data in entries})
    PATH.write_text("".join(lines))


def drawn(count: int, seed: int = 0) -> list[Entry]:
    """For every target the plainest input and random ones, many of whose bytes are zero: for what is new."""
    rng = random.Random(seed)
    entries = []
    for target in targets().values():
        entries.append((target, b""))
        for _ in range(count):
            choices = [rng.choice((0, 0, rng.randrange(256))) for _ in range(rng.randrange(60))]
            entries.append((target, bytes(choices)))
    return entries


def decoded(data: bytes) -> Entry:
    """What a fuzzer's input means: two bytes for the target, the rest for the call."""
    names = list(targets())
    name = names[int.from_bytes(data[:2], "little") % len(names)]
    return targets()[name], data[2:]


def encoded(entry: Entry) -> bytes:
    """An entry as a fuzzer's input."""
    target, data = entry
    return list(targets()).index(target.name).to_bytes(2, "little") + data


def kept_sequences() -> list[tuple[str, bytes]]:
    """Those of fuzz.sequences: a machine's name and bytes."""
    lines = SEQUENCES.read_text().splitlines() if SEQUENCES.exists() else []
    pairs = (line.split() for line in lines)
    return [(name, bytes.fromhex(data)) for name, data in pairs]


def write_sequences(entries: Iterable[tuple[str, bytes]]) -> None:
    """Keep these."""
    lines = sorted({f"{name} {data.hex()}\n" for name, data in entries})
    SEQUENCES.write_text("".join(lines))
