"""One thread against all, alone, over sizes."""

import nnfast as nf
from bench.cases import CASES, Case
from bench.timing import in_turn

SIZES = (10**4, 10**5, 10**6, 10**7)


def speedup(case: Case, n: int, rounds: int) -> float:
    """Time with one thread over time with the default number, back to back."""
    call = case(n)
    number = max(1, 10**7 // n)

    def serial() -> None:
        with nf.num_threads(1):
            for _ in range(number):
                call()

    def default() -> None:
        for _ in range(number):
            call()

    one, many = in_turn([serial, default], rounds)
    return one / many


def main(rounds: int = 30) -> dict[str, list[float]]:
    """Print the table; the speed-ups by name."""
    print(f"{nf.get_num_threads()} threads over 1  " + "".join(f"{n:>10.0e}" for n in SIZES))
    rows = {}
    for name, case in CASES.items():
        rows[name] = [speedup(case, n, max(rounds, rounds * 10**6 // max(n, 10**5))) for n in SIZES]
        print(f"{name:19}" + "".join(f"{value:10.2f}" for value in rows[name]), flush=True)
    return rows
