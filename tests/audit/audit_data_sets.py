"""Small generated data sets as files of several formats: clean ones, and the faults that are put into them."""

import csv
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from nlp_pipeline import TextClassification, TokenClassification

SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
TOPICS = ("delivery", "payment", "return policy")
TYPES = ("person", "place")
KINDS = {  # kind: recipe class, options, further settings
    "single": (TextClassification, {}),
    "carved": (TextClassification, {}),
    "pair": (TextClassification, {}),
    "multi": (TextClassification, {"problem": "multi_label"}),
    "score": (TextClassification, {"problem": "regression"}),
    "tags": (TokenClassification, {}),
    "plain": (TokenClassification, {"scheme": "plain"}),
}


@dataclass
class DataSet:
    """Rows by split; `id` is a row's name where there is such a column, else its number is."""

    kind: str
    format: str
    splits: dict
    settings: dict = field(default_factory=dict)

    def name(self, split: str, row: int) -> str:
        return str(self.splits[split][row].get("id", row + 1))

    def recipe(self, folder: Path, model: str):
        """Write the files and make the recipe that reads them."""
        cls, options = KINDS[self.kind]
        files = {split: str(write(rows, folder / f"{split}.{self.format}")) for split, rows in self.splits.items()}
        fraction = {"test_fraction": 0.2} if self.kind == "carved" else {}
        return cls(model=model, options=options, dir=str(folder / "run"), **files, **fraction, **self.settings)


def write(rows: list[dict], path: Path) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow(json.dumps(v) if isinstance(v, list) else "" if v is None else v for v in row.values())
    return path


def sentence(rng: random.Random, words: int = 10) -> str:
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.choice([2, 3]))) for _ in range(words))


def clean(kind: str, format: str, seed: int, named: bool = False) -> DataSet:
    """60 training and 30 test rows without a fault."""
    rng = random.Random(seed)
    sizes = {"train": 60, "test": 30} if kind != "carved" else {"train": 90}
    splits = {}
    for split, size in sizes.items():
        rows = [{"id": f"{split}-{i}"} if named else {} for i in range(size)]
        splits[split] = [row | _row(kind, rng, i) for i, row in enumerate(rows)]
    return DataSet(kind, format, splits)


def _row(kind: str, rng: random.Random, number: int) -> dict:
    topic = TOPICS[number % 3]
    if kind in ("tags", "plain"):
        tokens = sentence(rng).split()
        if kind == "plain":
            return {"tokens": tokens, "tags": [rng.choice(["NOUN", "VERB", "ADJ"]) for _ in tokens]}
        type_ = TYPES[number % 2]
        return {"tokens": tokens, "tags": ["O", f"B-{type_}", f"I-{type_}", "O", "O", f"B-{type_}", *["O"] * 4]}
    if kind == "multi":
        return {"text": sentence(rng), "labels": sorted({topic, TOPICS[(number // 3) % 3]})}
    if kind == "score":
        return {"text": sentence(rng), "score": round(rng.uniform(1, 5), 2)}
    pair = {"text_pair": sentence(rng, 6)} if kind == "pair" else {}
    return {"text": sentence(rng), **pair, "label": topic}
