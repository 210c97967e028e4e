"""The command line: parse, call, exit code. Heavy packages are imported by the commands that need them."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from .devices import leave_processes
from .errors import NlpPipelineError
from .exits import resume_hint, show_error, show_traceback
from .export.commands import export
from .registry import commands as registry_commands
from .serving import commands as serving_commands
from .startup import hold_collector, release_collector
from .tracking.commands import track

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models: from a data file to a trained, evaluated, packaged model.",
)
DIFFERENT = 5
"""Exit code of a reproduction that isn't bit-equal to its run."""
MODEL_HELP = "A run directory, its model folder, or a registry version such as file:models/NAME@production"
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value, e.g. training.epochs=4")]

Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings or names: read it first")
]


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
    run: Annotated[str, typer.Argument(help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(help="A file with labelled rows")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
    trust_remote_code: Trust = False,
) -> None:
    """Score a fine-tuned model on labelled rows."""
    import json

    from .evaluation.report import score_table
    from .recipe import Recipe
    from .run_directory import finite
    from .stages.scoring import evaluate_source

    recipe = Recipe.from_pretrained(run, trust_remote_code)
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
    run: Annotated[str, typer.Argument(help=MODEL_HELP)],
    source: Annotated[
        str, typer.Argument(help="A data file, or - for standard input: a text or JSON row a line")
    ] = "-",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON Lines here")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compute in float32 throughout: slower")] = False,
    trust_remote_code: Trust = False,
) -> None:
    """Predict for new rows; JSON Lines with each row's id, to standard output or a file."""
    from .recipe import Recipe
    from .run_directory import json_line, lines_file

    recipe = Recipe.from_pretrained(run, trust_remote_code)
    rows = sys.stdin if source == "-" else source
    windows = recipe.predict_windows(rows, progress=output is not None, exact=exact)
    if not recipe.is_main_process:
        for _ in windows:  # each process computes its share of every window
            pass
    elif output is None:
        print_lines(json_line(record) for records in windows for record in records)
    else:
        done = 0
        partial = output.with_name(f"{output.name}.partial")
        try:
            with lines_file(output, partial) as write:
                for records in windows:
                    write(records)
                    done += len(records)
        except BaseException:
            if done:
                print(f"stopped: the first {done:,} predictions are in {partial}", file=sys.stderr)
            raise
        print(f"{done:,} predictions in {output}")


@app.command()
def audit(
    recipe: Annotated[Path, typer.Argument(help="A recipe file")],
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every row's id, instead of tables")] = False,
    fix: Annotated[
        Path | None, typer.Option("--fix", help="Write a cleaned copy of the rows and a list of the changes here")
    ] = None,
) -> None:
    """Look through the rows for what is wrong or looks wrong. Exit code 2 if a run would stop on it."""
    import json

    from .audit.report import print_audit, summary
    from .recipe import Recipe
    from .stages.auditing import audit_alone, fix_rows

    # The whole data set is cleaned, not the part of it that a quick try uses.
    audited = Recipe.from_yaml(recipe, *(overrides or []), *(["data.max_train_rows=null"] if fix else []))
    found = audit_alone(audited)
    left = fix_rows(audited, found, fix) if fix else None
    if as_json:
        print(json.dumps(found.to_json() | ({"left": left.to_json()} if left else {}), ensure_ascii=False))
    else:
        print_audit(found)
        if fix is not None and left is not None:
            print(f"{fix / 'fixes.jsonl'} lists what was done. After it, {summary(left.findings)}")
            print(f"Train on the cleaned rows: nlp-pipeline train {fix / 'recipe.yaml'}")
    if (left or found).errors:
        raise typer.Exit(2)


@app.command(name="label-errors")
def label_errors(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML)")],
    overrides: Overrides = None,
    folds: Annotated[int, typer.Option(help="Models to train, each without its share of the rows")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the list here as JSON Lines")] = None,
    prune: Annotated[Literal["class", "noise_rate", "both"], typer.Option(help="How many to list")] = "class",
    fresh: Annotated[bool, typer.Option("--fresh", help="Train the folds anew beside earlier ones")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only")] = False,
) -> None:
    """List training rows whose label is likely wrong, worst first. The same command resumes."""
    import json

    from .recipe import Recipe
    from .run_directory import finite
    from .stages.label_errors import closing_lines, error_table, find_label_errors

    with resume_hint():
        made = Recipe.from_yaml(recipe, *(overrides or []))
        found = find_label_errors(made, folds, progress=not as_json, output=output, fresh=fresh, prune=prune)
    if not made.is_main_process:
        return
    if as_json:
        print(json.dumps(finite(found), ensure_ascii=False))
    else:
        from rich.console import Console

        Console().print(error_table(found))
        print(*closing_lines(found), sep="\n")


@app.command()
def reproduce(
    run: Annotated[Path, typer.Argument(help="A finished run directory")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the new run")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse other versions and devices too")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew beside an earlier reproduction")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only")] = False,
) -> None:
    """Make a finished run again from its manifest; say whether it is bit-equal. Exit code 5 where it isn't."""
    import json

    from .run_directory import finite
    from .stages.reproducing import describe
    from .stages.reproducing import reproduce as again

    with resume_hint():
        outcome = again(run, output, strict, fresh, progress=not as_json)
    if outcome:
        print(json.dumps(finite(outcome)) if as_json else "\n".join(describe(outcome)))
        if not outcome["equal"]:
            raise typer.Exit(DIFFERENT)


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


@app.command("train-tokenizer")
def train_tokenizer(
    data: Annotated[list[str], typer.Argument(help="Data files (or what else data.train may name) with the texts")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write")],
    algorithm: Annotated[str, typer.Option(help="bpe, wordpiece or unigram")] = "bpe",
    vocabulary: Annotated[int, typer.Option(help="Tokens in all", min=16)] = 8192,
    column: Annotated[list[str] | None, typer.Option(help="The column of the texts, or several")] = None,
    marks: Annotated[str, typer.Option(help="none (decoder), both (encoder) or end (encoder-decoder)")] = "none",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Take capitals for small letters")] = False,
) -> None:
    """Train a tokenizer for a model from scratch (`model: {name: FOLDER, architecture: …}`)."""
    from . import tokenizer_training as training

    known = training.checked(algorithm, marks)
    texts, rows = training.texts_of(data, column)
    tokenizer = training.train_tokenizer(texts, known[0], vocabulary, lowercase, known[1])
    training.save_tokenizer(tokenizer, output)
    print(f"{output}: {algorithm} of {len(tokenizer):,} tokens, from {rows:,} texts")


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


app.command()(track)
app.command()(export)
registry_commands.register(app)
serving_commands.register(app)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines at once; whoever reads them may stop early."""
    try:
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more is said at exit
        raise SystemExit(141) from None


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `nlp-pipeline`."""
    hold_collector()
    try:
        app(arguments)
    except NlpPipelineError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from None
    except Exception:
        show_traceback()
        raise SystemExit(1) from None
    finally:
        release_collector()
        leave_processes()


if __name__ == "__main__":
    main()
