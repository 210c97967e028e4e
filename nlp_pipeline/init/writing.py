"""From a data file to a recipe file: look, guess, rehearse the loading, write, say what was done."""

import re
import shlex
from pathlib import Path

from ..config import load_config
from ..data.locations import COMPRESSIONS
from ..data.problems import counted
from ..errors import ConfigError
from .compose import compose
from .draft import Draft, scalar
from .file import open_file
from .guess import Guess, guess_task
from .rehearsal import rehearse

GENERIC_NAMES = re.compile(r"train(ing)?|data|dataset", re.IGNORECASE)


def write_recipe(data: Path, output: Path | None, model: str | None, force: bool) -> list[str]:
    """Write a recipe for a data file.

    Args:
        data: CSV, TSV, JSON, JSON Lines or Parquet.
        output: the recipe file; by default named after the data, in the working directory.
        model: the model to fine-tune; by default a small sentence encoder.
        force: write over an existing file.

    Returns:
        What was guessed and why, and the command to run, as lines to print.

    Raises:
        ConfigError: the output exists, or the model can't be found.
        DataError: the data can't be read, or doesn't show what the task is.
    """
    target = output if output is not None else default_output(data)
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; name a file with --output")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists: write over it with --force, or name another file with --output")
    file = open_file(data)
    guess = guess_task(file.sample, file.rows)
    draft = compose(file, guess, model)
    loaded = rehearse(draft, target.stem)
    shown = f"{data}, {counted(file.count, 'row')}"
    head = (
        f"Written by `nlp-pipeline init` from {shown}. Everything here may be changed; `nlp-pipeline schema` lists "
        "all settings there are."
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draft.text(head), encoding="utf-8")
    load_config(target)  # what was written is what was rehearsed
    command = f"nlp-pipeline train {shlex.quote(str(target))}"
    return [shown, *_report(draft, guess), *loaded, f"wrote {target}; train with:", f"  {command}"]


def default_output(data: Path) -> Path:
    """`reviews.csv` gives reviews.yaml, and so does `reviews/train.csv`, as `train` says nothing."""
    inner = Path(data.stem) if data.suffix.lower() in COMPRESSIONS else data
    folder = data.resolve().parent.name
    name = folder if GENERIC_NAMES.fullmatch(inner.stem) and folder else inner.stem
    return Path(f"{name.lstrip('.') or 'recipe'}.yaml")


def _report(draft: Draft, guess: Guess) -> list[str]:
    """What was chosen and why, a line a setting."""
    lines = []
    for section, values in draft.sections.items():
        for key, value in values.items():
            name = f"{section}.{key}" if section else key
            if key == "columns":
                for column, given in guess.columns.items():
                    lines.append(f"{name}.{column}: {scalar(given)} ({guess.reasons[column]})")
            elif why := "; ".join(draft.comments[section, key]):
                lines.append(f"{name}: {scalar(value)} ({why})")
    return lines + [f"note: {note}" for note in guess.notes]
