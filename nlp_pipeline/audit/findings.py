"""What an audit found, and how it is told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..data.labels import shown
from ..data.problems import RowProblem

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found in one split.

    `rows` are the ids of the rows concerned, all of them; `partners`, where given, names for each of them the row that
    it repeats or contradicts. `message` shows the first ten, and says what to do.
    """

    check: str
    severity: Severity
    split: str
    message: str
    rows: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.rows)

    def __str__(self) -> str:
        known = not self.split or self.message.startswith(f"{self.split}:")
        return self.message if known else f"{self.split}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in `audit.json`."""
        return {**asdict(self), "count": self.count}


@dataclass(frozen=True)
class Audit:
    """Every finding of a run's rows, errors first, and figures about each split."""

    findings: tuple[Finding, ...] = ()
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By split: rows, and the lengths, tokens and scripts of its texts."""
    key: str = ""
    """Hash of the rows and of everything else that the findings depend on."""

    @property
    def errors(self) -> list[Finding]:
        """What stops a run."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What does not."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    def to_json(self) -> dict[str, Any]:
        """As it stands in `audit.json`."""
        return {
            "key": self.key,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [finding.to_json() for finding in self.findings],
            "statistics": self.statistics,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Audit":
        """What `to_json` gave."""
        found = [{k: v for k, v in entry.items() if k != "count"} for entry in content["findings"]]
        tuples = [{**entry, "rows": tuple(entry["rows"]), "partners": tuple(entry["partners"])} for entry in found]
        return cls(tuple(Finding(**entry) for entry in tuples), content["statistics"], content["key"])


def from_problems(problems: Iterable[str], severity: Severity = "error") -> list[Finding]:
    """Findings of what loading the rows reported: one a split where the problem knows its rows."""
    findings = []
    for problem in problems:
        by_split = problem.rows if isinstance(problem, RowProblem) else {"": []}
        check = problem.check if isinstance(problem, RowProblem) else "load"
        findings += [
            Finding(check, severity, split, str(problem), tuple(map(str, rows))) for split, rows in by_split.items()
        ]
    return findings


def row_list(rows: Sequence[str], partners: Sequence[str] = (), joined: str = "=") -> str:
    """`rows 3, 7 and 12 more`, or `rows 7 (= 3), …` where each has a partner."""
    names = [f"{row} ({joined} {other})" for row, other in zip(rows, partners, strict=True)] if partners else rows
    return f"{'row' if len(rows) == 1 else 'rows'} {shown(names)}"
