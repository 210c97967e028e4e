"""From a model's name to a tokenizer and a model with the right head."""

import logging
import os
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.checks import model_folder, pickled_weights
from ..config.schema import ModelConfig
from ..data.labels import Labels
from ..errors import MissingExtraError, ModelError
from ..run_directory import file_hash
from ..secrets import expand, expanded_path

if TYPE_CHECKING:
    import numpy as np
    import torch

LONGEST_DEFAULT = 512
"""Longest default sequence: models that allow more are asked for it by `tokenization.max_length`."""


def load_tokenizer(config: ModelConfig, words: bool = False) -> Any:
    """The tokenizer of a model, from the disk or the Hub's cache before the network.

    Args:
        words: it will be given words, not running text: a byte-level tokenizer (GPT-2, RoBERTa) then has to put a
            space before each, or it would spell most of them letter by letter.
    """
    from transformers import AutoTokenizer

    from ..data.python_tokenizer import without_advice
    from ..data.rust_tokenizer import wants_space

    name = config.tokenizer or config.name
    try:
        with without_advice():
            tokenizer = _load_local_first(AutoTokenizer.from_pretrained, name, config)
    except ModelError as error:
        if "requires the SentencePiece" in str(error):
            raise MissingExtraError(f"the tokenizer of {name!r}", "sentencepiece", "translation") from error
        raise
    if words and tokenizer.is_fast and wants_space(tokenizer):
        tokenizer = _load_local_first(AutoTokenizer.from_pretrained, name, config, add_prefix_space=True)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # padded positions are masked: any id serves
    return tokenizer


def load_model_config(config: ModelConfig) -> Any:
    """The model's transformers config, with the recipe's `model.settings` applied."""
    from transformers import AutoConfig

    if config.architecture is not None:
        loaded = new_architecture(config)
    else:
        loaded = _load_local_first(AutoConfig.from_pretrained, config.name, config)
    unknown = [key for key in config.settings if not hasattr(loaded, key)]
    if unknown:
        raise ModelError(
            [
                f"model.settings: {key!r} is no setting of {type(loaded).__name__}; see its documentation"
                for key in unknown
            ]
        )
    for key, value in config.settings.items():
        try:
            setattr(loaded, key, value)
        except Exception as error:  # configs check their fields' types themselves, each with an error of its own
            raise ModelError(f"model.settings.{key}: found {value!r}; {_first_line(error)}") from error
    return loaded


def new_architecture(config: ModelConfig) -> Any:
    """The transformers config of a model to train from scratch; what the tokenizer knows is taken from it.

    Raises:
        ModelError: no such file or type of model, or settings that it doesn't have.
    """
    import json

    from transformers import CONFIG_MAPPING

    given: Any = config.architecture
    try:
        settings = dict(given) if isinstance(given, Mapping) else json.loads(expanded_path(given).read_text("utf-8"))
        kind = settings.pop("model_type")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise ModelError(
            f"model.architecture: found {given!r}, expected a config.json or settings, `model_type` among them"
        ) from None
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model.architecture.model_type: transformers has no {kind!r}; well known are bert, gpt2, llama"
        )
    tokenizer = load_tokenizer(config)
    known = CONFIG_MAPPING[kind]()
    own = [key for key in settings if not hasattr(known, key) and key not in _WRITTEN_BY_TRANSFORMERS]
    if own:
        raise ModelError([f"model.architecture: {key!r} is no setting of {type(known).__name__}" for key in own])
    settings = {"vocab_size": len(tokenizer)} | settings
    settings |= {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    made = CONFIG_MAPPING[kind](**settings)
    if made.is_encoder_decoder and "decoder_start_token_id" not in settings:
        # Its own default is an id of the tokenizer that it was published with. As T5: padding begins a text.
        made.decoder_start_token_id = tokenizer.pad_token_id
    return made


_WRITTEN_BY_TRANSFORMERS = {"architectures", "transformers_version", "torch_dtype", "dtype"}


def load_model(
    config: ModelConfig,
    auto_class: str,
    settings: Mapping[str, Any],
    pad_token_id: int | None = None,
    head_bias: "np.ndarray | None" = None,
) -> "torch.nn.Module":
    """The pretrained model under a head for this task.

    A head that comes with the checkpoint is kept only if its label names are the task's; one for other labels (or
    for nameless ones) is drawn anew, even if it happens to have the same size.

    Args:
        auto_class: a class of transformers, e.g. `AutoModelForSequenceClassification`.
        settings: entries of the model's config: label names, problem type.
        head_bias: float32[labels], where the bias of a head drawn anew starts, instead of at 0.
        pad_token_id: the tokenizer's, for models that look for the last token of a row and whose config names none.
    """
    import torch
    import transformers

    check_weights(config)
    _refuse_pickles(config)
    model_config = load_model_config(config)
    before = Labels.from_model_config(model_config)
    for key, value in settings.items():
        setattr(model_config, key, value)
    if getattr(model_config, "pad_token_id", None) is None:
        model_config.pad_token_id = pad_token_id
    cls = getattr(transformers, auto_class)
    if config.architecture is not None:
        model = cls.from_config(model_config, dtype=torch.float32)
        if head_bias is not None:
            _start_bias(model, set(model.state_dict()), head_bias)
        return model
    quantized: dict[str, Any] = {}
    if config.quantization:
        from .quantization import loading_options

        quantized = loading_options()
    model, report = _load_local_first(
        cls.from_pretrained,
        config.name,
        config,
        config=model_config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        output_loading_info=True,
        **quantized,
    )
    fresh = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    base = model.base_model_prefix + "."
    head = set() if model.base_model is model else {n for n in model.state_dict() if not n.startswith(base)}
    foreign = "id2label" in settings and (before is None or before.names != tuple(settings["id2label"].values()))
    if foreign and not head <= fresh:
        drawn = cls.from_config(model.config).state_dict()
        model.load_state_dict({name: drawn[name] for name in head}, strict=False)
        fresh |= head
    if head_bias is not None:
        _start_bias(model, head & fresh, head_bias)
    if config.layers is not None:
        from .parameters import keep_layers

        keep_layers(model, config.layers)
    return model


def _start_bias(model: Any, fresh: Set[str], values: "np.ndarray") -> None:
    """Set the bias of the last layer, if it was drawn anew."""
    import torch

    biases = [p for name, p in model.named_parameters() if name in fresh and p.shape == (len(values),)]
    if biases:
        with torch.no_grad():
            biases[-1].copy_(torch.from_numpy(values))


def _refuse_pickles(config: ModelConfig) -> None:
    """Say of a folder, or of what the Hub's cache holds, that its weights are pickled, before anything opens them."""
    folder = model_folder(config.name)
    if folder is None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(expand(config.name), "config.json", revision=config.revision)
        folder = Path(found).parent if isinstance(found, str) else None
    if folder is not None and (problems := pickled_weights(folder)):
        raise ModelError(problems)


def check_weights(config: ModelConfig) -> None:
    """Compare the weight file with the SHA-256 of the recipe, if it gives one."""
    if config.sha256 is None:
        return
    found = weights_hash(config)
    if found != config.sha256:
        raise ModelError(
            f"model.sha256: expected {config.sha256}, found {found or 'no local model.safetensors'} in {config.name}; "
            "the weights are not the ones this recipe was written for"
        )


def weights_hash(config: ModelConfig) -> str | None:
    """SHA-256 of a local model's `model.safetensors`; None when it lies elsewhere."""
    folder = model_folder(config.name)
    file = folder / "model.safetensors" if folder else None
    return file_hash(file) if file is not None and file.exists() else None


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """What decides every weight of a model: by content where it lies on the disk, by commit where it is the Hub's.

    A model from scratch is known by its settings; the seed comes to that.
    """
    settings = {"settings": dict(config.settings), "quantization": config.quantization}
    if config.architecture is not None:
        return settings | {"config": load_model_config(config).to_json_string()}
    if folder := model_folder(config.name):
        return settings | {"weights": {path.name: file_hash(path) for path in sorted(folder.glob("*.safetensors"))}}
    commit = getattr(load_model_config(config), "_commit_hash", None)
    return settings | {"name": config.name, "revision": config.revision, "commit": commit}


def longest_sequence(tokenizer: Any, model_config: Any) -> int:
    """The model's own limit in tokens, at most 512 unless asked for more."""
    limits = [LONGEST_DEFAULT]
    if 0 < tokenizer.model_max_length < 10**9:
        limits.append(tokenizer.model_max_length)
    positions = position_limit(model_config)
    if positions:
        limits.append(positions)
    return min(limits)


def position_limit(model_config: Any) -> int | None:
    """Most positions that the model can embed; None when it has no such table."""
    positions = getattr(model_config, "max_position_embeddings", None)
    kind = getattr(model_config, "model_type", "")
    if not isinstance(positions, int) or positions <= 0 or kind in _COMPUTED_POSITIONS:
        return None
    # RoBERTa and its kin number positions from the padding id on
    offset = 2 if kind in _OFFSET_POSITIONS else 0
    return positions - offset


_COMPUTED_POSITIONS = {"m2m_100", "nllb-moe"}
"""They compute as many as a text needs."""
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "longformer",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
}


def _load_local_first(load: Any, name: str, config: ModelConfig, /, **options: Any) -> Any:
    """Try the disk, then the network (unless HF_HUB_OFFLINE forbids it)."""
    folder = model_folder(name)
    source = str(folder or expand(name))
    options["trust_remote_code"] = config.trust_remote_code
    if config.revision is not None and folder is None:
        options["revision"] = config.revision
    with quiet_transformers():
        try:
            return load(source, local_files_only=True, **options)
        except Exception as error:  # a damaged folder leads to errors of any type
            _refuse_code(name, config, error)
            if folder is not None:
                raise ModelError(f"the model in {folder} can't be loaded: {_first_line(error)}") from error
            if not isinstance(error, OSError | ValueError):
                raise ModelError(f"the cached model {name!r} can't be loaded: {_first_line(error)}") from error
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
            raise ModelError(
                f"the model {name!r} is neither a folder nor in the local Hub cache, and HF_HUB_OFFLINE forbids to "
                "fetch it; unset it once, or give a folder or `package:…`"
            )
        try:
            return load(source, **options)
        except Exception as error:  # the Hub client and damaged files raise dozens of types
            _refuse_code(name, config, error)
            raise ModelError(
                f"the model {name!r} is neither a folder nor in the local Hub cache, and the Hub did not give it as "
                f"safetensors (pickled weights are never loaded): {_first_line(error)}"
            ) from error


def _refuse_code(name: str, config: ModelConfig, error: Exception) -> None:
    """Say what to do about a model that only runs with Python code of its own, if that is what the error is about."""
    if not config.trust_remote_code and "trust_remote_code" in str(error):
        raise ModelError(
            f"the model {name!r} needs Python code that comes with it, and none of that was run. Read the code; if you "
            "trust it, allow it with model.trust_remote_code=true (for a finished run: --trust-remote-code)"
        ) from None


def _first_line(error: Exception) -> str:
    words = str(error).strip()
    if not words or not isinstance(error, OSError | ValueError):
        words = f"{type(error).__name__}: {words}".rstrip(": ")
    return words.splitlines()[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or load reports of the library while a model loads; the run prints its own line."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
