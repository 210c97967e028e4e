"""`nlp-pipeline export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="A run directory, its model folder, or a registry version")],
    to: Annotated[list[str], typer.Option("--to", help="onnx, onnx-int8, exported-program, merged; may be repeated")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder that gets a folder for each; by default RUN/export"),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="A data file to check on, in place of the run's test rows")] = None,
    most_rows: Annotated[int, typer.Option(help="Most rows to check on")] = 5000,
    tolerance: Annotated[float, typer.Option(help="Largest difference of any output in float32")] = 1e-4,
    score_tolerance: Annotated[float, typer.Option(help="How much score weights of 8 bits may cost")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings or names")
    ] = False,
) -> None:
    """Export a model for other runtimes, checked against the PyTorch model. Exit code 5 where it isn't the same."""
    import json

    from ..run_directory import finite
    from .exporting import export as export_run

    made = export_run(
        run,
        to,
        output,
        rows=rows,
        most_rows=most_rows,
        tolerance=tolerance,
        score_tolerance=score_tolerance,
        trust_remote_code=trust_remote_code,
        progress=not as_json,
    )
    if as_json:
        print(json.dumps(finite(made), ensure_ascii=False))
