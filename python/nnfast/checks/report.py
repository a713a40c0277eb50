"""The report of check_model."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """What one of the checks has found.

    Parameters
    ----------
    name : str
        The name of the check.
    verdict : "passed", "FAILED" or "skipped"
        What came of it.
    found : str
        In numbers, or why it was skipped.
    advice : str
        What to try where the check failed.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(3, 2, rng=0))
    >>> report = nf.checks.check_model(net, 200 * np.ones((4, 3)), [0, 1, 1, 1], verbose=False)
    >>> report.findings[0][:3]
    ('input scale', 'FAILED', 'a feature has a root mean square of 200')
    """

    name: str
    verdict: Literal["passed", "FAILED", "skipped"]
    found: str
    advice: str


@dataclass(frozen=True)
class ModelReport:
    """What check_model found. Printed it is a list.

    Parameters
    ----------
    findings : tuple of Finding
        One for each check, in their order.

    Examples
    --------
    >>> import nnfast as nf
    >>> finding = nf.checks.Finding("gradient", "FAILED", "0.bias is wrong", "look at backward")
    >>> report = nf.checks.ModelReport((finding,))
    >>> report.passed, report.failed, report.skipped
    ([], ['gradient'], [])
    >>> print(report)
    0 checks passed, 1 failed
    FAILED   gradient           0.bias is wrong
             try                look at backward
    """

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> list[str]:
        """The names of the checks that passed."""
        return self._with("passed")

    @property
    def failed(self) -> list[str]:
        """The names of those that failed."""
        return self._with("FAILED")

    @property
    def skipped(self) -> list[str]:
        """The names of those that were not made, or had nothing to judge."""
        return self._with("skipped")

    def _with(self, verdict: str) -> list[str]:
        return [finding.name for finding in self.findings if finding.verdict == verdict]

    def __str__(self) -> str:
        counts = [
            (self.passed, "checks passed"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
        ]
        lines = [
            ", ".join(
                f"{len(names)} {what}" for names, what in counts if names or what != "skipped"
            )
        ]
        for finding in self.findings:
            lines.append(f"{finding.verdict:9}{finding.name:19}{finding.found}")
            if finding.advice:
                lines.append(f"{'':9}{'try':19}{finding.advice}")
        return "\n".join(lines)
