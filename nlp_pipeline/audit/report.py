"""An audit as a person reads it: a table of findings, and one of figures about each split."""

from collections.abc import Sequence
from typing import Any

from .findings import Audit, Finding

MOST_ROWS = 30


def print_audit(audit: Audit) -> None:
    """Both tables, on standard output."""
    from rich.console import Console

    console = Console()
    console.print(findings_table(audit.findings) if audit.findings else summary(audit.findings))
    if audit.statistics:
        console.print(statistics_table(audit))


def findings_table(findings: Sequence[Finding]) -> Any:
    """A rich table: a line a finding, errors first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=summary(findings), title_justify="left", show_lines=True)
    for name in ("check", "split", "rows"):
        table.add_column(name, justify="right" if name == "rows" else "left", no_wrap=True)
    table.add_column("what was found, and what to do", overflow="fold")
    for finding in findings[:MOST_ROWS]:
        message = finding.message.removeprefix(f"{finding.split}: ")
        cells = (Text(finding.check), finding.split, f"{finding.count:,}" if finding.count else "", Text(message))
        table.add_row(*cells, style="red" if finding.severity == "error" else None)
    return table


def summary(findings: Sequence[Finding]) -> str:
    """`audit: 1 error, 3 warnings`."""
    errors = sum(finding.severity == "error" for finding in findings)
    counts = [(errors, "error"), (len(findings) - errors, "warning")]
    told = ", ".join(f"{n:,} {word}{'' if n == 1 else 's'}" for n, word in counts if n)
    more = f", the first {MOST_ROWS} of them" if len(findings) > MOST_ROWS else ""
    return f"audit: {told or 'nothing found'}{more}"


def statistics_table(audit: Audit) -> Any:
    """A rich table: a line a split; the script of the letters stands for the language, which it only hints at."""
    from rich.table import Table

    table = Table(title="rows (median / 95th percentile / longest)", title_justify="left")
    for name in ("split", "rows", "characters", "tokens", "truncated", "scripts"):
        table.add_column(name, justify="left" if name in ("split", "scripts") else "right")
    for split, figures in audit.statistics.items():
        lengths = [
            " / ".join(f"{figures[name][q]:,}" for q in ("median", "p95", "max")) if name in figures else "–"
            for name in ("characters", "tokens")
        ]
        cut = f"{figures['truncated']:.1%}" if "truncated" in figures else "–"
        scripts = ", ".join(f"{name} {share:.1%}" for name, share in list(figures["scripts"].items())[:3])
        table.add_row(split, f"{figures['rows']:,}", *lengths, cut, scripts)
    return table
