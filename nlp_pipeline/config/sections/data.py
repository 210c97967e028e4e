"""Where the rows come from, what is looked for in them, and how they become token ids."""

from typing import Literal

from pydantic import Field

from .base import Section

Sources = str | list[str]


class DataConfig(Section):
    """Where the rows come from and how they are split."""

    train: Sources | None = None
    """Training rows: a file (a `.txt` holds texts with a blank line between), a glob, a list of them, a `save_to_disk`
    folder, `hub:user/name`, a SQLAlchemy URL (with `query`), or `sample:messages`. One split of a Hub data set:
    `hub:user/name#split`. `${NAME}` is read from the environment, here and in other places, names and queries: for
    passwords, `postgresql://me:${DB_PASSWORD}@…`."""
    validation: Sources | None = None
    """Validation rows; used to choose the best checkpoint and to stop early."""
    test: Sources | None = None
    """Test rows; scored once, at the end."""
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "txt", "disk", "hub", "sql"] = "auto"
    """File format; `auto` goes by the file's ending."""
    encoding: str = "utf-8"
    """Text encoding of CSV, TSV and JSON files."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """Column delimiter of CSV files, if it isn't a comma (or a tab in TSV)."""
    query: str | dict[Literal["train", "validation", "test"], str] | None = None
    """SQL query: one for `train`, or one a split."""
    hub_config: str | None = None
    """Configuration (subset) of a Hub data set."""
    hub_revision: str | None = None
    """Revision of a Hub data set."""
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    """The task's column names mapped to the file's, e.g. `{text: body, label: intent}`. A list of columns for a text
    joins them with a line break; for several labels a row it names columns of 0 and 1."""
    id_column: str | None = None
    """Column whose value names a row in predictions and messages; by default `id` if there is one, else row numbers."""
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training rows carved off for validation (seeded, stratified where the task can)."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training rows carved off for the test set."""
    split_seed: int = Field(13, ge=0, lt=2**32)
    """Seed of the carve; apart from `training.seed`, so that seeds can be compared on the same split."""
    max_train_rows: int | None = Field(None, ge=1)
    """Use only so many training rows (drawn with `split_seed`): for a quick try."""
    missing_labels: Literal["error", "drop"] = "error"
    """What to do with rows that lack a label or a text."""


Check = Literal[
    "empty_text",
    "placeholder",
    "damaged_characters",
    "blank_tokens",
    "over_long",
    "unknown_characters",
    "script",
    "label_spelling",
    "rare_label",
    "imbalance",
    "unseen_label",
    "exact_duplicates",
    "near_duplicates",
    "conflicting_labels",
    "shared_rows",
    "near_shared_rows",
    "answer_span",
]


class AuditConfig(Section):
    """What is looked for in the rows before the model loads. Errors stop a run, warnings are shown."""

    enabled: bool = True
    """Look at the rows before training."""
    near_duplicate_threshold: float = Field(0.8, ge=0.3, le=1)
    """Texts count as nearly the same from this Jaccard index of their character 4-grams on."""
    ignore: list[Check] = Field(default_factory=list)
    """Checks to leave out."""


class TokenizationConfig(Section):
    """How text becomes token ids, and where the result is kept."""

    max_length: int | None = Field(None, ge=4)
    """Longest sequence in tokens, special tokens included; by default the model's own limit, at most 512."""
    cache: bool = True
    """Keep tokenized rows and use them again."""
    cache_dir: str | None = None
    """Where tokenized rows are kept; by default `$NLP_PIPELINE_CACHE`, else `~/.cache/nlp-pipeline`."""
