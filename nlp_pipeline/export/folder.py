"""The folder of an export: what is in it beside the model, and how it gets its name only when it is whole."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..modeling.logistic_head import FILE as HEAD
from ..run_directory import environment, folder_hash, read_json, utc_now, write_text

EXPORT_FILE = "export.json"
"""What transformers' own exporters call their manifest, too: our part of it is under `OURS`."""
OURS = "nlp_pipeline"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.onnx", "*.onnx.data")
NOT_COPIED = (*WEIGHTS, "README.md", EXPORT_FILE)


def facts_of(folder: Path) -> dict[str, Any]:
    """What `export.json` says of an export; empty for a folder that is none."""
    found = read_json(folder / EXPORT_FILE).get(OURS)
    return found if isinstance(found, dict) else {}


def check_place(folder: Path) -> list[str]:
    """Why an export can't get this name: only what is an export itself is replaced."""
    if folder.is_symlink():
        return [f"--output: {folder} is a symbolic link; choose another folder"]
    if folder.exists() and not facts_of(folder):
        return [f"--output: {folder} is there and holds no export; it is left alone, choose another folder"]
    return []


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its place at the end; after an error nothing has changed.

    Raises:
        ConfigError: the place can't be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent)
    except OSError as error:
        raise ConfigError(f"--output: {folder} can't be made: {error.strerror}") from None
    with holder as name:
        aside = Path(name) / "new"
        aside.mkdir()
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        old = Path(name) / "old"
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(aside, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise


def copy_beside(model: Path, folder: Path) -> None:
    """The files of a saved model but its weights: config with the label names, tokenizer, recipe, a fitted head."""
    weights = shutil.ignore_patterns(*NOT_COPIED)

    def ignored(place: Any, names: Any) -> set[str]:
        return weights(place, names) - {HEAD}

    shutil.copytree(model, folder, ignore=ignored, dirs_exist_ok=True)


ONNX_README = """# {name}

An export of a fine-tuned model (task: {task}) to {target}, made by nlp-pipeline. `export.json` says what it was checked
on; labels are in `config.json`.

    nlp-pipeline predict PATH_OF_THIS_FOLDER

or without nlp-pipeline:

```python
from onnxruntime import InferenceSession
from transformers import AutoConfig, AutoTokenizer

folder = "PATH_OF_THIS_FOLDER"
config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
session = InferenceSession(f"{{folder}}/model.onnx")
made = tokenizer(["a text of your own"], padding=True, truncation=True, return_tensors="np")
outputs = session.run(None, {{each.name: made[each.name] for each in session.get_inputs()}})
print(dict(zip([each.name for each in session.get_outputs()], outputs)), config.id2label)
```
"""


def write_readme(folder: Path, task: str, target: str) -> None:
    """How an ONNX folder is used."""
    write_text(folder / "README.md", ONNX_README.format(name=target, task=task, target=target))


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `export.json`, the last file: facts, versions, and the hash of every other file."""
    packages = {k: v for k, v in environment()["packages"].items() if k in ("nlp-pipeline", "torch", "transformers")}
    ours = {**facts, "packages": packages, "created": utc_now(), "files": folder_hash(folder)}
    theirs = read_json(folder / EXPORT_FILE)
    ours["files"].pop(EXPORT_FILE, None)
    write_text(folder / EXPORT_FILE, json.dumps(theirs | {OURS: ours}, indent=2, ensure_ascii=False) + "\n")


def megabytes(folder: Path) -> float:
    """Size of all the files of a folder, in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
