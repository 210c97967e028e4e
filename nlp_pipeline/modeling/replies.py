"""Replies of a decoder to prompts, greedily, a batch at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.fields import IGNORED
from ..errors import ConfigError


def can_generate(model: Any, needed: bool, asked: bool = False) -> bool:
    """Whether a model can reply now: not in shards, where every process would have to make as many tokens.

    Args:
        needed: the scores are of replies.
        asked: there are rows that have none, such as those to predict for.

    Raises:
        ConfigError: it can't, and it is needed; or it can never, and is asked for one.
    """
    from .sharding import is_sharded

    if not hasattr(getattr(model, "module", model), "generate"):
        if needed or asked:
            raise ConfigError(
                "an ONNX export gives the logits of given tokens, it doesn't generate replies; take the run itself, or "
                "its export with --to merged"
            )
        return False
    if not is_sharded(model):
        return True
    if needed:
        raise ConfigError(
            "options.scores: found replies, which a model in shards (FSDP) can't generate during training; expected "
            "likelihood, or leave out the validation rows: the saved model is scored whole"
        )
    return False


def generate_replies(
    model: Any, prompts: Sequence[np.ndarray], ends: Sequence[int], pad: int, max_new_tokens: int
) -> list[np.ndarray]:
    """int64[n] a prompt: the likeliest next tokens one by one, up to and with one that ends a reply.

    Args:
        model: of transformers, perhaps wrapped for several processes; runs padded, on the left.
        prompts: int64[m] each. One that leaves no room in the model's positions loses its beginning.
        ends: ids that end a reply.
        pad: id to fill up with.
    """
    import torch
    from transformers import GenerationConfig

    from .loading import position_limit
    from .padding_free import find

    inner = getattr(model, "module", model)
    limit = position_limit(inner.config)
    room = max(1, limit - max_new_tokens) if limit else max(map(len, prompts))
    cut = [prompt[-room:] for prompt in prompts]
    longest = max(map(len, cut))
    ids = np.full((len(cut), longest), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(cut):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, 1
    device = inner.get_input_embeddings().weight.device
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=min(max_new_tokens, limit - longest) if limit else max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
    )
    given = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    packed = find(inner)
    if packed is None:
        made = inner.generate(**given, generation_config=settings)
    else:
        with packed.packed(None):
            made = inner.generate(**given, generation_config=settings)
    return [_until(row, ends) for row in made[:, longest:].cpu().numpy()]


def _until(ids: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """The tokens up to the first that ends a reply, that one included."""
    found = np.flatnonzero(np.isin(ids, list(ends)))
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
