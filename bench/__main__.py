"""``python -m bench``: everything; ``python -m bench NAME...``: some of it."""

import argparse

import nnfast as nf
from bench import accuracy, calls, neighbours, scaling, threading, training

PARTS = {
    "accuracy": accuracy.main,
    "calls": calls.main,
    "scaling": scaling.main,
    "neighbours": neighbours.main,
    "threading": threading.main,
    "training": training.main,
}

parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=", ".join(PARTS))
names = parser.parse_args().part or list(PARTS)
print(f"nnfast {nf.__version__}, {nf.cpu_info()['chosen']}, {nf.get_num_threads()} threads")
for name in names:
    print(f"\n-- {name}")
    PARTS[name]()
