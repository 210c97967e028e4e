"""A teacher's answers to the training rows: computed once before training, kept in the cache, read from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.checks import teacher_folder
from ..data.labels import Labels, shown
from ..data.token_table import grouped
from ..errors import ConfigError
from .kept import kept_columns

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
    soft, taught = recipe.soft_targets(), recipe.config.teacher
    assert soft is not None
    assert taught is not None
    if taught.hidden_states:
        features, own = (c.hidden_size for c in (config, load_model_config(recipe.config.model)))
        if features != own:
            problems.append(
                f"teacher.hidden_states: the teacher's states have {features} features, the model's {own}; take a "
                "model of the teacher's width, such as some of its layers (model.layers), or leave it out"
            )
    kind, expected = getattr(config, "problem_type", None), wanted.get("problem_type")
    if kind is not None and kind != expected and expected is not None:
        problems.append(f"teacher: its problem is {kind}, that of this recipe {expected}")
    if recipe.labels is not None and soft.same_labels:
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
    from ..data.tokenization import code_version

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
        "about": soft.about,
    }
    return table.with_columns(kept_columns(recipe, "teacher", parts, lambda: _answers(recipe, soft, encoder)))


def load_teacher(recipe: "Recipe", pad_token_id: int | None = None) -> Any:
    """The teacher on the device, without padding where its architecture can."""
    from ..modeling.loading import load_model
    from ..modeling.padding_free import PaddingFree, why_not

    model: Any = load_model(teacher_model(recipe), recipe.auto_model, {}, pad_token_id)
    if why_not(model.config) is None:
        PaddingFree(model)
    return model.to(recipe.accelerator.device)


def _encoder(recipe: "Recipe", soft: "SoftTargets") -> "Encoder":
    """The teacher's own tokenizer; the student's where answers or hidden states belong to tokens.

    A teacher of vectors reads as much of a text as it does on its own.
    """
    from ..data.tokenization import Encoder
    from ..modeling.embeddings import read_longest
    from ..modeling.loading import load_model_config, load_tokenizer, longest_sequence

    model = teacher_model(recipe)
    tokenizer = load_tokenizer(model, recipe.columns()[0].kind == "tokens")
    longest = longest_sequence(tokenizer, load_model_config(model))
    encoder = Encoder(tokenizer, min(longest, read_longest(Path(model.name)) or longest))
    assert recipe.config.teacher is not None
    if not (soft.same_tokens or recipe.config.teacher.hidden_states):
        return encoder
    problems = []
    if encoder.sha256 != recipe.encoder.sha256:
        problems.append(
            f"teacher: its tokenizer is not that of {recipe.config.model.name}, and what it says of tokens needs the "
            "same tokens; start from a model with the teacher's tokenizer (model.tokenizer names another)"
        )
    if longest < recipe.encoder.max_length:
        problems.append(
            f"teacher: it takes {longest} tokens, found tokenization.max_length={recipe.encoder.max_length}; "
            f"expected at most {longest}"
        )
    if problems:
        raise ConfigError(problems)
    return recipe.encoder


def _answers(recipe: "Recipe", soft: "SoftTargets", encoder: "Encoder") -> "Iterator[pa.Table]":
    """What the teacher says of the training rows, a window of them at a time."""
    import pyarrow as pa

    from ..data.batching import windows
    from ..data.tokenization import tokenize_window
    from ..evaluation.prediction import predict_table

    assert recipe.splits is not None
    assert recipe.splits.train is not None
    config, rows = recipe.config, recipe.splits.train
    model = load_teacher(recipe, encoder.tokenizer.pad_token_id)
    order = _label_order(recipe, model) if soft.same_labels else None
    with recipe.reporter.bar("Asking the teacher", len(rows)) as bar:
        for window in windows(len(rows), config.batch.window):
            table = tokenize_window(rows.select(window), lambda part: recipe.preprocess(part, encoder))
            size = config.batch.evaluation
            found = predict_table(recipe, model, table, recipe.accelerator, size, bar, collect=soft.record)
            values = [value if order is None else value[..., order] for value in found.values]
            if table.sizes is None:
                answers = _lists([value.ravel() for value in values])
            else:  # an answer a sequence
                answers = grouped({"": _lists([row for value in values for row in value])}, table.sizes.tolist())[""]
            yield pa.table({soft.field.name: answers})


def _label_order(recipe: "Recipe", model: Any) -> list[int] | None:
    """For each of the student's labels its place among the teacher's."""
    theirs = Labels.from_model_config(model.config)
    return None if recipe.labels is None or theirs is None else [theirs.ids[name] for name in recipe.labels.names]


def _lists(values: list[np.ndarray]) -> "pa.Array":
    """list<float> an entry."""
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    flat = np.concatenate(values) if values else np.zeros(0, np.float32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(np.float32)))
