"""The end of a run, as a person reads it: scores beside the baseline, and where everything lies."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..progress import Reporter, clock
from ..run_directory import RunDirectory

MOST_ROWS = 20


def show_results(results: Mapping[str, Any], run: RunDirectory, reporter: Reporter) -> None:
    """Print the table of scores and the list of files."""
    if not reporter.active:
        return
    reporter.show(score_table(results))
    more = max(0, len(results["scores"]) - MOST_ROWS)
    if more:
        reporter.say(f"and {more} more scores in {run.results}")
    training = results.get("training") or {}
    if training.get("seconds"):
        speed = training["examples"] / training["seconds"]
        reporter.say(
            f"trained {training['step']:,} steps in {clock(training['seconds'])} ({speed:,.1f} rows/s, evaluations "
            f"included), peak memory {results['peak_memory_mib']:,.0f} MiB"
        )
    reporter.say(f"model        {run.model}")
    reporter.say(f"predictions  {run.predictions / (results['split'] + '.jsonl')}")
    reporter.say(f"results      {run.results}")
    reporter.say(f"try it       echo 'your text' | nlp-pipeline predict {run.path}")


def score_table(results: Mapping[str, Any]) -> Any:
    """A rich table: one line a metric, the model beside the baseline."""
    from rich.table import Table

    baseline = (results.get("baseline") or {}).get("scores", {})
    title = f"{results['task']}, {results['rows']:,} rows" + (f" of {results['split']}" if "split" in results else "")
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("fine-tuned", justify="right")
    if intervals := results.get("intervals"):
        table.add_column(f"{results['confidence']:.0%} interval", justify="right")
    if baseline:
        table.add_column(f"baseline: {results['baseline']['name']}", justify="right")
    ordered = sorted(
        results["scores"].items(), key=lambda item: (item[0] != results.get("best_metric"), "/" in item[0])
    )
    for name, value in ordered[:MOST_ROWS]:
        cells = [name, number(value)]
        cells += [interval(intervals.get(name))] if intervals else []
        cells += [number(baseline.get(name))] if baseline else []
        table.add_row(*cells, style="bold" if name == results.get("best_metric") else None)
    return table


def number(value: float | None) -> str:
    """Four places; a dash where a score is undefined."""
    return "–" if value is None or value != value else f"{value:.4f}"


def interval(ends: Sequence[float] | None) -> str:
    """`0.8012 to 0.8533`; a dash where there is none."""
    return "–" if ends is None else f"{number(ends[0])} to {number(ends[1])}"
