"""From a data file to a recipe file: look, guess, rehearse the loading, write, say what was done."""

import re
import shlex
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..config import Config, build_config, load_config
from ..data.problems import counted, quoted
from ..errors import ConfigError, DataError
from .file import DataFile, find_siblings, open_file
from .guess import Guess, guess_task
from .settings import BATCH_SIZE, choose_epochs, choose_learning_rate, choose_max_length, choose_model

SMALL = 100
"""Below so many rows a test set would be a handful: none is carved."""
MOST_CARVED = 10_000
SEEDS = range(13, 23)
SEEDS_UP_TO = 50_000
"""Rows up to which several seeds of the split are tried."""
GENERIC_NAMES = re.compile(r"train(ing)?|data|dataset", re.IGNORECASE)


@dataclass
class Draft:
    """A recipe in the making: settings by section, each with a comment."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    comments: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def set(self, section: str, key: str, value: Any, *why: str) -> None:
        """A setting and the lines of its comment; section "" is the top level."""
        self.sections.setdefault(section, {})[key] = value
        self.comments[section, key] = [text for text in why if text]

    def settings(self) -> dict[str, Any]:
        """What YAML would read."""
        nested = {name: values for name, values in self.sections.items() if name}
        return {**self.sections.get("", {}), **nested}

    def text(self, head: str) -> str:
        """The file's text."""
        lines = _comment(head, "")
        for section, values in self.sections.items():
            lines += [f"{section}:"] if section else []
            indent = "  " if section else ""
            for key, value in values.items():
                for why in self.comments[section, key]:
                    lines += _comment(why, indent)
                lines.append(f"{indent}{key}: {_scalar(value)}")
        return "\n".join(lines) + "\n"


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
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already; write over it with --force, or name another file with --output")
    file = open_file(data)
    guess = guess_task(file.sample, file.rows)
    draft = _draft(file, guess, model)
    loaded = _rehearse(draft, target.stem)
    shown = f"{data}, {counted(file.count, 'row')}"
    head = (
        f"Written by `nlp-pipeline init` from {shown}. Everything here may be changed; `nlp-pipeline schema` lists all "
        "other settings."
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draft.text(head), encoding="utf-8")
    load_config(target)  # what was written is what was checked
    return [shown, *_report(draft, guess), *loaded, f"wrote {target}; train with:", f"  {_command(target)}"]


def default_output(data: Path) -> Path:
    """`reviews.csv` gives reviews.yaml; `reviews/train.csv` too, as `train` says nothing."""
    stem = data.name.partition(".")[0] or data.stem
    folder = data.resolve().parent.name
    name = folder if GENERIC_NAMES.fullmatch(stem) and folder else stem
    return Path(f"{name.lstrip('.') or 'recipe'}.yaml")


def _draft(file: DataFile, guess: Guess, model: str | None) -> Draft:
    draft, why = Draft(), guess.reasons
    name, sha256, why_model = choose_model(model)
    draft.set("", "task", guess.task, why["task"])
    draft.set("model", "name", name, why_model)
    if sha256:
        draft.set("model", "sha256", sha256, "the weights that are expected; remove this line with another model")
    rows = _set_data(draft, file, guess)
    for option, value in guess.options.items():
        draft.set("options", option, value, why[option])
    max_length, why_length = choose_max_length(file.sample, guess.texts, name)
    draft.set("tokenization", "max_length", max_length, why_length)
    draft.set("batch", "size", BATCH_SIZE, "rows per optimizer step; as large as usual for fine-tuning")
    epochs, why_epochs = choose_epochs(rows)
    draft.set("training", "epochs", epochs, why_epochs)
    rate, why_rate = choose_learning_rate(name)
    draft.set("training", "learning_rate", float(rate), why_rate)
    draft.set("training", "warmup", 0.1, "the rate rises over the first tenth of the steps, while the head is random")
    return draft


def _set_data(draft: Draft, file: DataFile, guess: Guess) -> int:
    """Where the rows are, how they are read and split. Returns about how many are left to train on."""
    data = file.data
    siblings, notes = find_siblings(file, guess.needed)
    guess.notes += notes
    draft.set("data", "train", data.train)
    for split, path in siblings.items():
        draft.set("data", split, path, "found beside the training rows")
    for key, reason in file.reasons.items():
        draft.set("data", key, getattr(data, key), reason)
    why = [f"{name}: {guess.reasons[name]}" for name in guess.columns if name in guess.reasons]
    draft.set("data", "columns", guess.columns, *why, *guess.notes)
    if guess.id_column:
        draft.set("data", "id_column", guess.id_column, "names the rows in predictions and messages")
    left = file.count
    for split, (fraction, reason) in _fractions(file.count, siblings).items():
        draft.set("data", f"{split}_fraction", fraction, reason)
        left -= round(fraction * file.count)
    return left


def _fractions(rows: int, siblings: dict[str, str]) -> dict[str, tuple[float, str]]:
    """The shares to carve for splits that have no file, and why."""
    share = 0.1 if rows <= MOST_CARVED / 0.1 else round(MOST_CARVED / rows, 4) or 0.0001
    small = rows < SMALL
    found = {}
    if "validation" not in siblings:
        reason = "rows kept out of training to choose the best epoch"
        if small:
            reason += f"; with only {counted(rows, 'row')} a larger share, and the scores are rough"
        found["validation"] = (0.2 if small else share, reason)
    if "test" not in siblings and not small:
        found["test"] = (share, "rows scored once, at the end; the same ones on every run")
    elif "test" not in siblings:
        found["test"] = (0.0, "too few rows for a test set of their own: the scores are those of the validation rows")
    return found


def _rehearse(draft: Draft, name: str) -> list[str]:
    """Loads the data as training would, and adds the settings without which it would fail.

    Returns:
        Lines on what was loaded.

    Raises:
        ConfigError, DataError: what is wrong in spite of those settings.
    """
    first: DataError | None = None
    for changes, why in _remedies(draft):
        data = draft.sections["data"] | changes
        config = build_config({**draft.settings(), "data": data, "name": name})
        try:
            lines = _load(config)
        except DataError as error:
            first = first or error
            continue
        for key, value in changes.items():
            draft.set("data", key, value, why[key])
        return lines
    assert first is not None  # there is at least one remedy: to change nothing
    raise DataError([*first.problems, "nothing was written: mend the data, then run `nlp-pipeline init` again"])


def _remedies(draft: Draft) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Changes of the data settings to try in turn, none first, and the comment of each."""
    data = draft.sections["data"]
    why = {
        "missing_labels": "some rows lack a label or a text: they are left out",
        "split_seed": "with this seed every label is among the training rows",
    }
    carved = bool(data.get("validation_fraction") or data.get("test_fraction"))
    stratified = draft.sections["options"].get("problem") == "single_label"
    seeds = SEEDS if carved and not stratified else SEEDS[:1]
    remedies = []
    for missing in ({}, {"missing_labels": "drop"}):
        for seed in seeds:
            remedies.append(({**missing, **({"split_seed": seed} if seed != SEEDS[0] else {})}, why))
    return remedies


def _load(config: Config) -> list[str]:
    """The rows of each split and the number of labels, loaded as in a run."""
    from ..tasks import recipe_class

    recipe = recipe_class(config).from_config(config)
    splits = recipe.load()
    counts = [
        f"{len(rows):,} {name}"
        for name in ("train", "validation", "test")
        if (rows := getattr(splits, name)) is not None
    ]
    return [f"loaded: {', '.join(counts)} rows{recipe.data_note()}", *(f"  {note}" for note in splits.notes)]


def _report(draft: Draft, guess: Guess) -> list[str]:
    """What was chosen, with the reasons, a line a setting."""
    lines = []
    for section, values in draft.sections.items():
        for key, value in values.items():
            why = "" if key == "columns" else "; ".join(draft.comments[section, key])
            lines += (
                []
                if key in ("train", "sha256", "columns")
                else [f"{key if not section else f'{section}.{key}'}: {_scalar(value)}" + (f" ({why})" if why else "")]
            )
            if key == "columns":
                lines += [
                    f"data.columns.{name}: {_scalar(given)} ({guess.reasons.get(name, '')})"
                    for name, given in guess.columns.items()
                ]
    return lines + [f"note: {note}" for note in guess.notes]


def _command(target: Path) -> str:
    return f"nlp-pipeline train {shlex.quote(str(target))}"


def _scalar(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _comment(text: str, indent: str) -> list[str]:
    # One line in, lines out: no value of the data may end the comment.
    words = " ".join(text.split())
    return textwrap.wrap(
        words, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False
    )
