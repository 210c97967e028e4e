"""Texts that a model generates, a batch at a time, through transformers' `generate`."""

import contextlib
import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.schema import GenerationSettings
from ..data.fields import IGNORED
from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

    from ..data.fields import Batch


def can_generate(model: Any, needed: bool, asked: bool = False) -> bool:
    """Whether a model can generate now: not in shards, where every process would have to make as many tokens.

    Args:
        needed: the scores are of generated texts.
        asked: there are rows that have no text, such as those to predict for.

    Raises:
        ConfigError: it can't, and it is needed; or it never can, and is asked for one.
    """
    from .sharding import is_sharded

    if not hasattr(getattr(model, "module", model), "generate"):
        if needed or asked:
            raise ConfigError(
                "an ONNX export gives the logits of given tokens, it doesn't generate texts; take the run itself, or "
                "its export with --to merged"
            )
        return False
    if not is_sharded(model):
        return True
    if needed:
        raise ConfigError(
            "options.scores: found generated, which a model in shards (FSDP) can't do during training; expected "
            "likelihood, or leave out the validation rows: the saved model is scored whole"
        )
    return False


def generation_config(model: Any, settings: GenerationSettings, **more: Any) -> Any:
    """A transformers GenerationConfig: the recipe's settings, and what else the model brings along.

    Args:
        more: further entries, such as `eos_token_id`; None leaves one as the model has it.
    """
    config = copy.deepcopy(getattr(model, "module", model).generation_config)
    chosen = settings.model_dump()
    if not settings.do_sample:
        chosen |= dict.fromkeys(("temperature", "top_k", "top_p"))
    if settings.num_beams == 1:
        chosen["length_penalty"] = None
    # What would change nothing is left out: transformers runs a step for each, and warns of some.
    chosen |= {name: None for name in ("repetition_penalty", "no_repeat_ngram_size") if chosen[name] in (0, 1.0)}
    for name, value in (chosen | {k: v for k, v in more.items() if v is not None}).items():
        setattr(config, name, value)
    config.max_length = None  # max_new_tokens says it
    return config


def generate(model: Any, inputs: "Mapping[str, torch.Tensor]", config: Any, seed: Sequence[int]) -> np.ndarray:
    """int64[rows, longest], what a model writes: a decoder after its prompts, which it repeats; runs padded.

    Args:
        model: of transformers, perhaps wrapped for several processes.
        config: of `generation_config`.
        seed: what is drawn depends on this alone.
    """
    import torch

    from .padding_free import find

    inner = getattr(model, "module", model)
    packed = find(inner)
    drawn = torch.random.fork_rng() if config.do_sample else contextlib.nullcontext()
    with packed.packed(None) if packed else contextlib.nullcontext(), drawn:
        if config.do_sample:
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        made: np.ndarray = inner.generate(**inputs, generation_config=config).cpu().numpy()
    return made


def generate_replies(model: Any, prompts: Sequence[np.ndarray], config: Any, seed: Sequence[int]) -> list[np.ndarray]:
    """int64[n] a prompt: the tokens that follow, up to and with one that ends a reply.

    Args:
        prompts: int64[m] each, padded on the left here. One that leaves no room in the model's positions loses its
            beginning.
        config: of `generation_config`, with `eos_token_id` and `pad_token_id`.
    """
    import torch

    from .loading import position_limit

    inner = getattr(model, "module", model)
    limit = position_limit(inner.config)
    room = max(1, limit - config.max_new_tokens) if limit else max(map(len, prompts))
    cut = [prompt[-room:] for prompt in prompts]
    longest = max(map(len, cut))
    ids = np.full((len(cut), longest), config.pad_token_id, np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(cut):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, 1
    device = inner.get_input_embeddings().weight.device
    given = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    if limit:
        config = copy.copy(config)
        config.max_new_tokens = min(config.max_new_tokens, limit - longest)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return [up_to_end(row, ends) for row in generate(model, given, config, seed)[:, longest:]]


def generate_targets(
    model: Any, batch: "Batch", chosen: np.ndarray, config: Any, seed: Sequence[int]
) -> dict[int, np.ndarray]:
    """By its place in the batch what an encoder-decoder writes for each of some sources, up to and with the end.

    Args:
        chosen: int64[n], at least one place.
        config: of `generation_config`, with `eos_token_id`.
    """
    from .loading import position_limit

    if limit := position_limit(getattr(model, "module", model).config):
        config = copy.copy(config)
        config.max_new_tokens = min(config.max_new_tokens, limit - 1)  # the start takes a position, too
    mask = batch.inputs["attention_mask"][chosen]
    longest = int(mask.sum(1).max())
    given = {"input_ids": batch.inputs["input_ids"][chosen][:, :longest], "attention_mask": mask[:, :longest]}
    found = generate(model, given, config, seed)[:, 1:]  # the first is the start
    return {p: up_to_end(ids, [config.eos_token_id]) for p, ids in zip(chosen.tolist(), found, strict=True)}


def target_outputs(model: Any, batch: "Batch") -> Any:
    """An encoder-decoder's outputs with logits [targets, vocabulary]; without targets [sources, 1, vocabulary], those
    of the first token."""
    from .heads import logits_at

    # Padding stands at the ends, where no token of a decoder looks: without a mask its attention is quicker.
    inputs = {name: value for name, value in batch.inputs.items() if name != "decoder_attention_mask"}
    if "labels" not in batch.targets:
        start = decoder_inputs(model, inputs["input_ids"][:, :1])
        return model(**inputs, decoder_input_ids=start, use_cache=False)
    labels = batch.targets["labels"]
    with logits_at(model, labels != IGNORED):
        return model(**inputs, decoder_input_ids=decoder_inputs(model, labels), use_cache=False)


def up_to_end(ids: np.ndarray, ends: Sequence[int | None]) -> np.ndarray:
    """The tokens up to the first that ends a text, that one included."""
    found = np.flatnonzero(np.isin(ids, [end for end in ends if end is not None]))
    return ids[: found[0] + 1] if len(found) else ids


def last_prompts(ids: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """int64[m] a sequence: its tokens up to where the last run of targets begins; all of them without targets.

    Args:
        ids: int64[sequences, longest]; `mask` likewise, 1 where there is a token.
        labels: int64[sequences, longest], the token that follows each, or IGNORED.
    """
    prompts = []
    for row, (length, targets) in enumerate(zip(mask.sum(1).tolist(), labels != IGNORED, strict=True)):
        begins = np.flatnonzero(targets & ~np.r_[False, targets[:-1]])
        prompts.append(ids[row, : int(begins[-1]) + 1 if len(begins) else length])
    return prompts


def decoder_inputs(model: Any, labels: "torch.Tensor") -> "torch.Tensor":
    """int64[rows, longest], what an encoder-decoder reads to foresee labels: the token before each.

    Args:
        labels: int64[rows, longest]; IGNORED at the ends.
    """
    import torch

    inner = getattr(model, "module", model)
    config = inner.config
    if hasattr(inner, "prepare_decoder_input_ids_from_labels"):  # mBART begins with the mark of the language
        made: torch.Tensor = inner.prepare_decoder_input_ids_from_labels(labels=labels)
        return made
    start = labels.new_full((len(labels), 1), config.decoder_start_token_id)
    return torch.cat([start, labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, config.pad_token_id)], 1)
