"""From rows to token ids: the tokenizer of a run, and its tables."""

from typing import TYPE_CHECKING, Any

from ..data.labels import Labels
from ..errors import ConfigError

if TYPE_CHECKING:
    import datasets

    from ..data.token_table import TokenTable
    from ..recipe import Recipe


def make_encoder(recipe: "Recipe") -> None:
    """Load the tokenizer, once, and settle the maximum length and the order of the labels."""
    if not hasattr(recipe, "encoder"):
        _load_encoder(recipe)
    _order_labels(recipe)


def _load_encoder(recipe: "Recipe") -> None:
    from ..data.tokenization import Encoder
    from ..modeling.loading import load_model_config, load_tokenizer, longest_sequence, position_limit

    config = recipe.config
    if config.model.quantization:
        from ..modeling.quantization import check_device

        check_device()
    words = recipe.columns()[0].kind == "tokens"
    tokenizer, model_config = load_tokenizer(config.model, words), load_model_config(config.model)
    if limit := position_limit(model_config):
        too_long = {name: tokens for name, tokens in recipe.longest().items() if tokens is not None and tokens > limit}
        if too_long:
            told = (f"{name}: found {n}, expected at most {limit}, this model's limit" for name, n in too_long.items())
            raise ConfigError(told)
    recipe.ready_tokenizer(tokenizer)
    recipe.encoder = Encoder(tokenizer, config.tokenization.max_length or longest_sequence(tokenizer, model_config))
    recipe.pad_token_id = tokenizer.pad_token_id or 0
    recipe.padded_because = _why_padded(recipe, model_config)
    recipe.base_labels = Labels.from_model_config(model_config)


def _order_labels(recipe: "Recipe") -> None:
    """The pretrained model's order, where its labels are these, in all that goes by it."""
    if recipe.labels is not None:
        before = recipe.labels
        recipe.labels = before.reordered_like(recipe.base_labels)
        if recipe.weights is not None and recipe.labels is not before:
            recipe.weights = recipe.weights[[before.ids[name] for name in recipe.labels.names]]
        if recipe.head_bias is not None and recipe.labels is not before:
            recipe.head_bias = recipe.head_bias[[before.ids[name] for name in recipe.labels.names]]


def _why_padded(recipe: "Recipe", model_config: Any) -> str | None:
    """Why the model runs padded; None when it runs without padding.

    Raises:
        ConfigError: it was asked for and can't be had.
    """
    from ..modeling.padding_free import why_not

    wanted = recipe.config.batch.padding_free
    reason = "batch.padding_free is false" if wanted is False else why_not(model_config)
    if wanted is True and reason:
        raise ConfigError(f"batch.padding_free: found true, but {reason}; leave it out")
    return reason


def tokenize_splits(recipe: "Recipe") -> "dict[str, TokenTable]":
    """Every split's token ids; the main process tokenizes, the others find its work in the cache."""
    assert recipe.splits is not None
    make_encoder(recipe)
    tables = {}
    with recipe.accelerator.main_process_first():
        for split, rows in recipe.splits.parts.items():
            tables[split] = tokenize_rows(recipe, rows, split, recipe.splits.fingerprints[split])
    if recipe.config.teacher is not None:
        from .teaching import with_soft_targets

        tables["train"] = with_soft_targets(recipe, tables["train"])
    return {split: recipe.complete(table, split) for split, table in tables.items()}


def tokenize_rows(recipe: "Recipe", rows: "datasets.Dataset", split: str, fingerprint: str) -> "TokenTable":
    """One split's token ids, through the cache unless it is off."""
    from ..data.tokenization import cache_root, code_version, tokenize

    settings = recipe.config.tokenization
    parts = {
        "data": fingerprint,
        "tokenizer": recipe.encoder.sha256,
        "max_length": recipe.encoder.max_length,
        "task": recipe.task,
        "options": recipe.options.model_dump(mode="json", exclude=set(recipe.options_after_tokenization)),
        "labels": list(recipe.labels.names) if recipe.labels else None,
        "code": code_version(recipe),
    }
    cache = cache_root(settings.cache_dir) if settings.cache else None
    name = f"{recipe.task}:{recipe.config.name}"
    with recipe.reporter.bar(f"Tokenizing {split}", len(rows)) as bar:
        table, report = tokenize(
            rows, lambda part: recipe.preprocess(part, recipe.encoder), parts, split, cache, name, bar.advance
        )
    recipe.reporter.say(str(report))
    return table
