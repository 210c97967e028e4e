"""A teacher's answers to the training rows: computed once before training, kept in the cache, read from there."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.checks import teacher_folder
from ..data.labels import Labels, shown
from ..errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from ..config.schema import ModelConfig
    from ..data.token_table import TokenTable
    from ..data.tokenization import Encoder
    from ..modeling.distillation import SoftTargets
    from ..recipe import Recipe


def teacher_model(recipe: "Recipe") -> "ModelConfig":
    """The teacher as a model to load."""
    from ..config.schema import ModelConfig
    from ..secrets import literal

    assert recipe.config.teacher is not None
    folder = teacher_folder(recipe.config.teacher.name)
    assert folder is not None, "settings were checked"
    return ModelConfig(name=literal(folder.resolve()))


def teacher_hash(recipe: "Recipe") -> str | None:
    """SHA-256 of the teacher's weight file."""
    from ..modeling.loading import weights_hash

    return weights_hash(teacher_model(recipe))


def teacher_problems(recipe: "Recipe") -> list[str]:
    """Everything in which the teacher predicts something else than what is to be learned. Loads no weights."""
    from ..modeling.loading import load_model_config

    config, wanted, problems = load_model_config(teacher_model(recipe)), recipe.model_settings(), []
    kind, expected = getattr(config, "problem_type", None), wanted.get("problem_type")
    if kind is not None and kind != expected and expected is not None:
        problems.append(f"teacher: its problem is {kind}, that of this recipe {expected}")
    if recipe.labels is not None:
        theirs, ours = Labels.from_model_config(config), recipe.labels.names
        names = theirs.names if theirs else ()
        for whose, missing in (
            ("of this recipe, which the teacher lacks", [name for name in ours if name not in names]),
            ("of the teacher, which this recipe lacks", [name for name in names if name not in ours]),
        ):
            if missing:
                problems.append(
                    f"teacher: labels {whose}: {shown(missing)}; train the teacher on rows with the same labels"
                )
    return problems


def with_soft_targets(recipe: "Recipe", table: "TokenTable") -> "TokenTable":
    """The training table with the teacher's answers, from the cache where nothing they depend on has changed.

    Every process runs its share of the rows; the main one writes, a window of rows at a time, and all read.

    Raises:
        ConfigError: answers belong to tokens, and the teacher's tokenizer makes others.
    """
    import datasets

    from ..data.tokenization import cache_root, code_version
    from ..evaluation.prediction import shared_from_main

    soft = recipe.soft_targets()
    assert soft is not None, "settings were checked"
    assert recipe.splits is not None
    encoder = _encoder(recipe, soft)
    parts = {
        "teacher": teacher_hash(recipe),
        "data": recipe.splits.fingerprints["train"],
        "tokenizer": [encoder.sha256, encoder.max_length],
        "task": recipe.task,
        "options": recipe.options.model_dump(mode="json", exclude=set(recipe.options_after_tokenization)),
        "labels": list(recipe.labels.names) if recipe.labels else None,
        "code": code_version(recipe),
    }
    settings = recipe.config.tokenization
    key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    temporary = (
        None if settings.cache else shared_from_main(tempfile.mkdtemp(prefix="nlp-pipeline-"), recipe.accelerator)
    )
    root = Path(temporary) if temporary else cache_root(settings.cache_dir).parent / "soft-labels"
    file = root / f"{key}.arrow"
    # One process decides: what it is about to write must not look like a hit to another.
    if shared_from_main(file.exists(), recipe.accelerator):
        recipe.reporter.say(f"teacher: its answers to {len(table):,} examples were in the cache (key {key[:8]})")
    else:
        _write(recipe, soft, encoder, file)
    found = datasets.Dataset.from_file(str(file)).data.table.column(soft.field.name)
    recipe.accelerator.wait_for_everyone()
    if temporary and recipe.is_main_process:
        shutil.rmtree(temporary)  # the mapping stays valid after its file is gone
    return table.with_columns({soft.field.name: found})


def _encoder(recipe: "Recipe", soft: "SoftTargets") -> "Encoder":
    """The teacher's own tokenizer; the student's where answers belong to tokens."""
    from ..data.tokenization import Encoder
    from ..modeling.loading import load_model_config, load_tokenizer, longest_sequence

    model = teacher_model(recipe)
    tokenizer = load_tokenizer(model, recipe.columns()[0].kind == "tokens")
    longest = longest_sequence(tokenizer, load_model_config(model))
    encoder = Encoder(tokenizer, longest)
    if not soft.same_tokens:
        return encoder
    problems = []
    if encoder.sha256 != recipe.encoder.sha256:
        problems.append(
            f"teacher: its tokenizer is not that of {recipe.config.model.name}, and each token's answer needs the same "
            "tokens; start from a model with the teacher's tokenizer (model.tokenizer names another)"
        )
    if longest < recipe.encoder.max_length:
        problems.append(
            f"teacher: it takes {longest} tokens, found tokenization.max_length={recipe.encoder.max_length}; "
            f"expected at most {longest}"
        )
    if problems:
        raise ConfigError(problems)
    return recipe.encoder


def _write(recipe: "Recipe", soft: "SoftTargets", encoder: "Encoder", file: Path) -> None:
    """Run the teacher over the training rows; a file under its final name is always whole."""
    import pyarrow as pa

    from ..data.batching import windows
    from ..data.tokenization import tokenize_window
    from ..evaluation.prediction import predict_table
    from ..modeling.loading import load_model

    assert recipe.splits is not None
    assert recipe.splits.train is not None
    config, rows = recipe.config, recipe.splits.train
    model: Any = load_model(teacher_model(recipe), recipe.auto_model, {}, encoder.tokenizer.pad_token_id)
    _run_packed(model)
    model.to(recipe.accelerator.device)
    order = _label_order(recipe, model)
    schema = pa.schema({soft.field.name: pa.list_(pa.float32())})
    aside = file.with_name(f".{file.name}-{os.getpid()}")
    main = recipe.is_main_process
    if main:
        file.parent.mkdir(parents=True, exist_ok=True)
    with recipe.reporter.bar("Asking the teacher", len(rows)) as bar, open(aside if main else os.devnull, "wb") as sink:
        with pa.ipc.new_stream(sink, schema) as writer:
            for window in windows(len(rows), config.batch.window):
                table = tokenize_window(rows.select(window), lambda part: recipe.preprocess(part, encoder))
                size = config.batch.evaluation
                found = predict_table(recipe, model, table, recipe.accelerator, size, bar, collect=soft.record)
                values = [value if order is None else value[..., order] for value in found.values]
                writer.write_table(pa.table({soft.field.name: _ragged(values)}, schema))
        sink.flush()
        if main:
            os.fsync(sink.fileno())
    if main:
        aside.replace(file)
    recipe.accelerator.wait_for_everyone()


def _run_packed(model: Any) -> None:
    """Without padding where the teacher's architecture can."""
    from ..modeling.padding_free import PaddingFree, why_not

    if why_not(model.config) is None:
        PaddingFree(model)


def _label_order(recipe: "Recipe", model: Any) -> list[int] | None:
    """For each of the student's labels its place among the teacher's."""
    theirs = Labels.from_model_config(model.config)
    return None if recipe.labels is None or theirs is None else [theirs.ids[name] for name in recipe.labels.names]


def _ragged(values: list[np.ndarray]) -> "pa.Array":
    import pyarrow as pa

    offsets = np.cumsum([0, *(value.size for value in values)]).astype(np.int32)
    flat = np.concatenate([value.ravel() for value in values]) if values else np.zeros(0, np.float32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(np.float32)))
