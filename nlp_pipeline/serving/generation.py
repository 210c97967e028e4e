"""Texts that a decoder goes on with, and replies to conversations: the one place that asks for generated tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .model import Found, Row

if TYPE_CHECKING:
    from ..recipe import Recipe

TASKS = ("text-generation", "instruction-tuning", "preference-tuning")
"""Tasks whose models are decoders."""
CHAT_TASKS = TASKS[1:]


def reply(recipe: "Recipe", rows: Sequence[Row], new_tokens: int) -> list[Found]:
    """A text after each prompt, as the recipe's `generation` has it, but never drawn.

    Args:
        rows: `prompt`, a text to go on with; or `messages`, of which the last is not the assistant's.

    Returns:
        `value`: int64[n], the ids; `record`: `prediction`, `tokens`, `prompt_tokens`, and whether it `ended` by itself.
    """
    import torch

    from ..modeling.generating import generate_replies, generation_config
    from ..stages.predicting import loaded_model

    model, encoder = loaded_model(recipe)
    tokenizer = encoder.tokenizer
    model.eval()
    if "messages" in rows[0]:
        prompts = chat_prompts(encoder, [row["messages"] for row in rows])
    else:
        prompts = [text_prompt(encoder, row["prompt"]) for row in rows]
    ends: list[int] = recipe.ends() if hasattr(recipe, "ends") else _ids(tokenizer.eos_token_id)
    with torch.no_grad():
        settings = recipe.config.generation.model_copy(update={"max_new_tokens": new_tokens, "do_sample": False})
        config = generation_config(model, settings, eos_token_id=ends or None, pad_token_id=recipe.pad_token_id)
        made = generate_replies(model, prompts, config, (recipe.config.training.seed,))
    return [
        Found(
            row,
            ids,
            {
                "prediction": tokenizer.decode(ids.tolist(), skip_special_tokens=True),
                "tokens": len(ids),
                "prompt_tokens": len(prompt),
                "ended": bool(len(ids)) and int(ids[-1]) in ends,
            },
        )
        for row, prompt, ids in zip(rows, prompts, made, strict=True)
    ]


def text_prompt(encoder: Any, text: str) -> np.ndarray:
    """int64[n], a text as training read its beginning: after the mark of a beginning (else of an end), if there is one.

    Of a text longer than the model reads, the end counts.
    """
    tokenizer = encoder.tokenizer
    (ids,) = encoder.whole([text])
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if ids[-1:] == _ids(tokenizer.eos_token_id):
        ids.pop()
    if ids[:1] != _ids(first):
        ids = _ids(first) + ids
    return np.array(ids[-encoder.max_length :] or [tokenizer.pad_token_id or 0], np.int64)


def chat_prompts(encoder: Any, talks: Sequence[Sequence[Any]]) -> list[np.ndarray]:
    """int64[n] a conversation, up to where the assistant begins to speak.

    Raises:
        DataError: conversations that the chat template can't write.
    """
    from ..data.chat import encode_chats

    names = [str(number) for number in range(1, len(talks) + 1)]
    columns = encode_chats(encoder, talks, names, [True] * len(talks))
    return [np.array(ids, np.int64) for ids in columns["input_ids"].to_pylist()]


def _ids(token: int | None) -> list[int]:
    return [] if token is None else [token]
