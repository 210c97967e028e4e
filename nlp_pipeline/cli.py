"""The command line: parse, call, exit code. Heavy packages are imported by the commands that need them."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .devices import launched_processes, launched_rank, leave_processes
from .errors import NlpPipelineError, StorageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models: from a data file to a trained, evaluated, packaged model.",
)
OTHERS_WAIT_SECONDS = 5.0
"""How long the other processes leave it to the main one to report an error and end the run."""
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
"""What a disk says when it can take no more, or nothing from us."""
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "remote worker", "NCCL")
"""What gloo and NCCL say, among other things, when another process has ended or does not answer."""
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value, e.g. training.epochs=4")]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML); `nlp-pipeline init DATA` writes one")],
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew in a folder beside an earlier run")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only")] = False,
) -> None:
    """Fine-tune a model, evaluate it, and leave everything in one run directory. The same command resumes."""
    from .recipe import Recipe

    with resume_hint():
        Recipe.from_yaml(recipe, *(overrides or [])).run(fresh=fresh, progress=not quiet)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory or its model folder")],
    data: Annotated[str, typer.Argument(help="A file with labelled rows")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> None:
    """Score a fine-tuned model on labelled rows."""
    import json

    from .evaluation.report import score_table
    from .recipe import Recipe
    from .run_directory import finite
    from .stages.scoring import evaluate_source

    recipe = Recipe.from_pretrained(run)
    results = evaluate_source(recipe, data, progress=not as_json)
    if not recipe.is_main_process:
        return
    if as_json:
        print(json.dumps(finite(results)))
    else:
        from rich.console import Console

        Console().print(score_table(results))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run directory or its model folder")],
    source: Annotated[
        str, typer.Argument(help="A data file, or - for standard input: a text or JSON row a line")
    ] = "-",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON Lines here")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compute in float32 throughout: slower")] = False,
) -> None:
    """Predict for new rows; JSON Lines with each row's id, to standard output or a file."""
    import json

    from .recipe import Recipe
    from .run_directory import finite, write_lines

    recipe = Recipe.from_pretrained(run)
    ids, rows = read_standard_input() if source == "-" else (None, source)
    records = recipe.predict(rows, progress=output is not None, ids=ids, exact=exact) if rows else []
    if not recipe.is_main_process:
        return
    if output is not None:
        write_lines(output, records)
        print(f"{len(records):,} predictions in {output}")
    else:
        for record in records:
            print(json.dumps(finite(record), ensure_ascii=False))


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A CSV, TSV, JSON, JSON Lines or Parquet file")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The recipe file to write")] = None,
    model: Annotated[str | None, typer.Option(help="Model to fine-tune")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file")] = False,
) -> None:
    """Look at a data file, guess the task and the columns, and write a recipe that trains as it is."""
    from .init import write_recipe

    for line in write_recipe(data, output, model, force):
        print(line)


@app.command()
def doctor() -> None:
    """Say what is installed, what devices there are, and what is missing."""
    from .doctor import report

    raise typer.Exit(report())


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it here instead of printing it")] = None,
) -> None:
    """The JSON Schema of recipe files, by which editors complete and check them."""
    import json

    from .config.json_schema import recipe_schema

    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        output.write_text(text, encoding="utf-8")
        print(f"{output}\nPut this line at the top of a recipe: # yaml-language-server: $schema={output}")


def read_standard_input() -> tuple[list[int], Any]:
    """Line numbers, and rows: JSON objects or strings, else each line as a text. Blank lines are passed over."""
    import json

    numbers: list[int] = []
    rows: list[Any] = []
    for number, line in enumerate(sys.stdin, start=1):
        line = line.rstrip("\n")
        if not line.strip():
            continue
        try:
            value = json.loads(line) if line.lstrip()[0] in '{["' else line
        except ValueError:
            value = line
        numbers.append(number)
        rows.append(value)
    if any(isinstance(row, dict) for row in rows) and not all(isinstance(row, dict) for row in rows):
        from .errors import DataError

        raise DataError("standard input: some lines are JSON objects and some are not; give one kind")
    return numbers, rows


@contextmanager
def resume_hint() -> Iterator[None]:
    """After a crash or an interrupt: what was kept, and the command to go on."""
    try:
        yield
    except NlpPipelineError as error:
        if error.exit_code != 2:
            show_error(error)
            hint()
            raise SystemExit(error.exit_code) from None
        raise
    except KeyboardInterrupt:
        print("\ninterrupted; everything up to the last checkpoint is kept", file=sys.stderr)
        hint()
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in STORAGE:
            crashed()
        show_error(StorageError(f"{error.filename or 'the run directory'} can't be written: {error.strerror}"))
        hint()
        raise SystemExit(StorageError.exit_code) from None
    except Exception:
        crashed()


def crashed() -> NoReturn:
    """What is printed for an error that nobody foresaw, and the end."""
    import traceback

    text = traceback.format_exc()
    if launched_processes() > 1:
        text = f"In process {launched_rank()}:\n{text}"
        # Not its own fault: the process at fault shows its traceback, unless it was killed.
        if any(words in text for words in PEER_LOST):
            text = f"process {launched_rank()}: another process has ended or does not answer; its error stands above"
    print(text, file=sys.stderr)
    print("\nThe run crashed; its checkpoints and metric log are kept.", file=sys.stderr)
    hint()
    raise SystemExit(1) from None


def hint() -> None:
    """The command that goes on."""
    import shlex

    launcher = f"accelerate launch … {sys.argv[0]}" if launched_processes() > 1 else "nlp-pipeline"
    print(f"Go on with the same command: {launcher} {shlex.join(sys.argv[1:])}", file=sys.stderr)


def show_error(error: NlpPipelineError) -> None:
    """The message without a traceback, once.

    Most errors meet every process alike: the main one speaks for all. The launcher ends all processes as soon as one
    does, so the others wait; whoever is still there after that has an error of its own.
    """
    rank = launched_rank()
    if rank:
        time.sleep(OTHERS_WAIT_SECONDS)
    print(f"error: {error}" if rank == 0 else f"error in process {rank}: {error}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `nlp-pipeline`."""
    try:
        app(arguments)
    except NlpPipelineError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from None
    finally:
        leave_processes()


if __name__ == "__main__":
    main()
