"""Models that see real tokens only: unpadded once before the first layer, padded again once after the last.

Rows of a batch are laid end to end, [1, tokens], and attention keeps them apart; every head and checkpoint of
transformers works unchanged, because outside the layers shapes are what they always were.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .attention import attend
from .attention_layout import Layout

NAME = "nlp_pipeline_packed"
"""Under which the attention is registered in transformers."""


@dataclass(frozen=True)
class Family:
    """How an architecture is laid out.

    `layers` names the submodule of the base model that holds the layers and whose output is padded again; empty for
    the base model itself. `offset`: positions are counted from the padding id on, as in RoBERTa.
    """

    layers: str = ""
    offset: bool = False


# Architectures whose packed form is tested against the padded one, by `model_type`.
FAMILIES = {
    "bert": Family("encoder"),
    "electra": Family("encoder"),
    "roberta": Family("encoder", offset=True),
    "camembert": Family("encoder", offset=True),
    "xlm-roberta": Family("encoder", offset=True),
    "albert": Family("encoder"),
    "distilbert": Family("transformer"),
    "modernbert": Family(),
    "gpt2": Family(),
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
}


def why_not(config: Any) -> str | None:
    """Why a model of this (transformers) config can't run without padding; None when it can."""
    kind = config.model_type
    if kind not in FAMILIES:
        return f"{kind} has no packed form yet"
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
        return "it has cross-attention"
    relative = getattr(config, "position_embedding_type", None) or "absolute"
    if relative != "absolute":
        return f"its position embeddings are {relative}"
    return None


class PaddingFree:
    """A transformers model, made to run packed: `with packed(lengths): model(**padded_batch)`.

    Outside `packed` the model runs as it always did. Nothing of it is replaced: hooks on two modules, an attention
    function chosen by name, all taken back by `remove`.
    """

    def __init__(self, model: Any) -> None:
        if reason := why_not(model.config):
            raise ValueError(reason)
        self.model, self.base = model, model.base_model
        self.family = FAMILIES[model.config.model_type]
        self.before = model.config._attn_implementation
        self.layout: Layout | None = None
        self.parameters = list(inspect.signature(self.base.forward).parameters)
        layers = self.base.get_submodule(self.family.layers)
        model.set_attn_implementation(NAME)
        self.hooks = [
            self.base.register_forward_pre_hook(self._unpad, with_kwargs=True),
            layers.register_forward_hook(self._pad),
        ]
        for module in model.modules():
            module._padding_free = self

    @contextmanager
    def packed(self, layout: Layout | None) -> Iterator[None]:
        """Run packed inside: forward and, where activations are recomputed, backward too. None runs padded."""
        before, self.layout = self.layout, layout
        try:
            yield
        finally:
            self.layout = before

    @contextmanager
    def eager(self, wanted: bool = True) -> Iterator[None]:
        """Use transformers' plainest attention inside, as a reference."""
        if not wanted:
            yield
            return
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(NAME)

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self.hooks:
            hook.remove()
        self.model.set_attn_implementation(self.before)
        for module in self.model.modules():
            module.__dict__.pop("_padding_free", None)

    def _unpad(self, base: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self.layout is None:
            return None
        changed = dict(zip(self.parameters, args, strict=False)) | kwargs  # some heads pass the first ones by position
        kwargs = dict(changed)
        ids = kwargs["input_ids"]
        padded = self.layout.on(ids.device, "padded")
        for name in ("input_ids", "token_type_ids"):
            if kwargs.get(name) is not None:
                changed[name] = kwargs[name].reshape(-1).index_select(0, padded)[None]
        positions = self.layout.on(ids.device, "positions")
        changed["position_ids"] = (positions + self._first_position())[None]
        # With four dimensions transformers takes a mask as made; the packed attention needs none.
        changed["attention_mask"] = torch.zeros(1, 1, 1, 1, device=ids.device)
        if hasattr(base.config, "use_cache"):
            changed["use_cache"] = False
        return (), changed

    def _first_position(self) -> int:
        return int(self.model.config.pad_token_id) + 1 if self.family.offset else 0

    def _pad(self, module: Any, args: Any, output: Any) -> Any:
        if self.layout is None:
            return None
        if isinstance(output, torch.Tensor):
            return self._padded(output)
        name = "last_hidden_state"
        output[name] = self._padded(output[name])
        return output

    def _padded(self, hidden: torch.Tensor) -> torch.Tensor:
        """[1, tokens, features] to [rows, longest, features]."""
        assert self.layout is not None
        rows, longest, real = self.layout.rows, self.layout.longest, self.layout.real_tokens
        full = hidden.new_zeros(rows * longest, hidden.shape[-1])
        where = self.layout.on(hidden.device, "padded")[:real]
        return full.index_copy(0, where, hidden.squeeze(0)[:real]).view(rows, longest, -1)


@torch.compiler.disable
def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: packed while a layout is set, else scaled dot product attention."""
    owner: PaddingFree | None = module.__dict__.get("_padding_free")
    if owner is None or owner.layout is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    causal = kwargs.get("is_causal")
    # Not x[0], whose gradient is a tensor of zeros that the real one is copied into. [tokens, heads, features]
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    out = attend(
        q,
        k,
        v,
        owner.layout,
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        dropout,
        bool(getattr(module, "is_causal", True) if causal is None else causal),
        None if sliding_window is None else sliding_window - 1,  # transformers counts the token itself
    )
    return out[None], None


AttentionInterface.register(NAME, _packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def find(model: torch.nn.Module) -> PaddingFree | None:
    """What makes this model (or the one inside an adapter or a wrapper) run packed, if anything does."""
    return next((m.__dict__["_padding_free"] for m in model.modules() if "_padding_free" in m.__dict__), None)
