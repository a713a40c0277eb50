"""Why nnfast is behind at a point: the one table of reasons, which the report puts beside every point below 1.0."""

from typing import Any, NamedTuple

Row = dict[str, Any]

UNKNOWN = "no reason known"
# From this share of the machine's limit on, a peer that is ahead differs by noise.
AT_THE_LIMIT = 0.9


class Reason(NamedTuple):
    """For the points of some kernels, or of all in a family, from one size to another."""

    names: frozenset[str]
    least: int
    most: int
    text: str

    def explains(self, row: Row) -> bool:
        """Whether it is the reason at a point."""
        names = {row["kernel"], row["kernel"].split()[0], f"all of {row['family']}"}
        return self.least <= row["n"] <= self.most and bool(names & self.names)


def reason(*names: str, least: int = 0, most: int = 10**18, text: str) -> Reason:
    """A row of the table."""
    return Reason(frozenset(names), least, most, text)


REASONS = [
    reason(
        "log_softmax",
        text="A logarithm in float64 lies between the passes over a row, and exponentials keep 1 ULP: 1.2 ULP over "
        "rows of 100, where ONNX Runtime and PyTorch have 606 in results near 0.",
    ),
    reason(
        "Muon",
        most=10**4,
        text="A step checks settings, state and gradients in Python, 10 to 20 µs, before a small matrix is multiplied.",
    ),
    reason(
        "Lookahead",
        most=10**3,
        text="Two steps and a synchronization look at settings, states and arrays again, 1 to 2 µs each.",
    ),
    reason(
        "Adam",
        "AdamW",
        least=10**4,
        most=10**5,
        text="The divider: a root and a quotient of each element, correctly rounded, take it 11 cycles for 8 floats, "
        "0.47 ns an element with one core; Numba computes with fastmath, which need not round them so.",
    ),
    reason(
        "all of optim",
        most=10**4,
        text="A step looks at the settings, the state and every array again, 1 to 2 µs; Numba's function does not.",
    ),
    reason(
        "hardtanh",
        "leaky_relu",
        most=10**4,
        text="NumPy's call of a ufunc and the parameters take as long as Numba's whole loop.",
    ),
    reason(
        "layer_norm_backward",
        most=10**5,
        text="dgamma and dbeta are added up in double, a row of columns after every four rows.",
    ),
    reason(
        "batch_norm_backward",
        least=10**6,
        text="A channel has sixteen sums, of rows that lie 16 apart, so that their order is that of any layout: memory "
        "gives a core 19 GB/s for them, and 30 for rows one after another.",
    ),
    reason(
        "group_norm last",
        "group_norm_backward last",
        most=10**4,
        text="Images of less than 512 pixels are turned, so that their sums are those of any layout.",
    ),
    reason(
        "softsign",
        "softsign_backward",
        text="The quotient is corrected to 1 ULP; the plain one, which Numba computes, has 1.5.",
    ),
    reason(
        "sigmoid",
        text="The denominator's sum and the quotient are corrected: 0.78 ULP over all inputs.",
    ),
    reason(
        "tanhshrink",
        text="JAX subtracts tanh x from x, and loses the digits next to 0; here a quotient is corrected.",
    ),
    reason(
        "squareplus",
        text="Where x is negative JAX subtracts nearly equal numbers; here that side has a quotient and a step of "
        "Newton's.",
    ),
    reason(
        "relu",
        "relu_backward",
        "relu6",
        "relu6_backward",
        "hardtanh",
        "leaky_relu",
        "leaky_relu_backward",
        "hardsigmoid",
        "elu_backward",
        "sigmoid_backward",
        "tanh_backward",
        least=10**5,
        text="Memory: Numba's loop reads and writes the same bytes in one pass too, and what lies between the two is "
        "about what two processes of one of them differ by.",
    ),
    reason(
        "group_norm",
        "instance_norm",
        most=10**4,
        text="Sets of 64 numbers: to join the lanes' sums, in one order everywhere, takes half of the time of a set.",
    ),
    reason(
        "group_norm",
        "instance_norm",
        least=10**5,
        text="Float32 is summed in float64, eight operations for sixteen numbers, for variances that can be merged.",
    ),
    reason(
        "hardswish",
        text="It takes x + 3 in two parts, of which none is lost, and is finite for all x: 14 operations beside 5.",
    ),
]


def of(row: Row) -> str:
    """The reason at a point; whether it is at the machine's limit is said by itself."""
    if row.get("share", 0) >= AT_THE_LIMIT:
        return f"At {row['share']:.0%} of the machine's limit."
    return next((each.text for each in REASONS if each.explains(row)), UNKNOWN)
