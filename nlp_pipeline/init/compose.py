"""The settings of the recipe, from what was found in the data."""

from .draft import Draft
from .file import DataFile, find_siblings
from .guess import Guess
from .settings import BATCH_SIZE, choose_epochs, choose_learning_rate, choose_max_length, choose_model

SMALL = 100
"""Below so many rows a test set would be a handful: none is carved."""
MOST_CARVED = 10_000
"""Rows that are enough for a split, however many there are."""


def compose(file: DataFile, guess: Guess, model: str | None) -> Draft:
    """All settings of the recipe, each with the reason for its value."""
    draft, why = Draft(), guess.reasons
    name, sha256, why_model = choose_model(model)
    draft.set("", "task", guess.task, why["task"])
    draft.set("model", "name", name, why_model)
    if sha256:
        draft.set("model", "sha256", sha256, "the weights expected; take this line out with another model")
    rows = _set_data(draft, file, guess)
    for option, value in guess.options.items():
        draft.set("options", option, value, why[option])
    max_length, why_length = choose_max_length(file.sample, guess.texts, name)
    draft.set("tokenization", "max_length", max_length, why_length)
    draft.set("batch", "size", BATCH_SIZE, "rows per optimizer step, as usual in fine-tuning")
    epochs, why_epochs = choose_epochs(rows)
    draft.set("training", "epochs", epochs, why_epochs)
    rate, why_rate = choose_learning_rate(name)
    draft.set("training", "learning_rate", rate, why_rate)
    draft.set("training", "warmup", 0.1, "the rate rises over the first tenth of the steps: the new head is random")
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
    reasons = [f"{name}: {guess.reasons[name]}" for name in guess.columns]
    draft.set("data", "columns", guess.columns, *reasons, *guess.notes)
    if guess.id_column:
        draft.set("data", "id_column", guess.id_column, "names the rows in predictions and messages")
    left = file.count
    for split, (fraction, reason) in _fractions(file.count, siblings).items():
        draft.set("data", f"{split}_fraction", fraction, reason)
        left -= round(fraction * file.count)
    return left


def _fractions(rows: int, siblings: dict[str, str]) -> dict[str, tuple[float, str]]:
    """The shares to carve for splits that have no file, and why."""
    share = 0.1 if rows * 0.1 <= MOST_CARVED else max(round(MOST_CARVED / rows, 4), 0.0001)
    small = rows < SMALL
    found = {}
    if "validation" not in siblings:
        reason = "share of the rows kept out of training to choose the best epoch"
        rough = f"; a larger one than the usual 0.1, as there are only {rows}, and the scores are rough"
        found["validation"] = (0.2, reason + rough) if small else (share, reason)
    if "test" not in siblings:
        reason = "share of the rows scored once, at the end; the same ones on every run"
        none = f"{rows} rows are too few for test rows of their own: the validation rows are scored"
        found["test"] = (0.0, none) if small else (share, reason)
    return found
