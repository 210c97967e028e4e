"""Which parameters train, how deep each one lies, and adapters in place of them."""

import fnmatch
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..config.schema import LoraConfig
from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"\.(?:layer|layers|h|block|blocks)\.(\d+)\.")


def layer_of(name: str) -> int | None:
    """The number of the encoder layer that a parameter belongs to, from its name; None outside the layers."""
    match = _LAYER.search(f".{name}")
    return int(match.group(1)) if match else None


def is_layer(name: str) -> bool:
    """Whether a module of this name is itself one of the repeated layers."""
    matches = list(_LAYER.finditer(f".{name}."))
    return bool(matches) and matches[-1].end() == len(name) + 2


def depth_from_head(name: str, layers: int, base_prefix: str) -> int:
    """How many layers lie between a parameter and the head: 0 the head, 1 the top layer, layers + 1 embeddings."""
    name = name.removeprefix("base_model.model.")  # of peft, and the base model may be called `model` itself
    layer = layer_of(name)
    if layer is not None:
        return layers - layer
    if f".{base_prefix}." not in f".{name}":
        return 0
    return 1 if "pooler" in name or ("norm" in name.rsplit(".", 2)[-2].lower() and "embed" not in name) else layers + 1


def count_layers(model: Any) -> int:
    """Encoder layers of a model, by its parameter names."""
    found = [layer for name, _ in model.named_parameters() if (layer := layer_of(name)) is not None]
    return max(found) + 1 if found else 0


def freeze(model: Any, patterns: Sequence[str]) -> int:
    """Stop parameters from training. Returns how many numbers are frozen.

    Raises:
        ConfigError: a pattern that matches nothing, or patterns that leave nothing to train.
    """
    embedding_ids = {id(p) for p in model.get_input_embeddings().parameters()} if patterns else set()
    base = model.base_model_prefix + "."
    frozen = 0
    for pattern in patterns:
        matched = [p for name, p in model.named_parameters() if _matches(pattern, name, p, embedding_ids, base)]
        if not matched:
            raise ConfigError(
                f"training.freeze: {pattern!r} matches no parameter; names look like "
                f"{', '.join(name for name, _ in list(model.named_parameters())[:3])}"
            )
        for parameter in matched:
            frozen += parameter.numel() if parameter.requires_grad else 0
            parameter.requires_grad_(False)
    if patterns and not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("training.freeze: nothing is left to train; freeze less")
    return frozen


def leave_alone(model: Any, patterns: Sequence[str]) -> int:
    """Stop parameters from training that play no part in the outputs, where there are any. Returns how many numbers."""
    found = [p for name, p in model.named_parameters() if any(fnmatch.fnmatchcase(name, glob) for glob in patterns)]
    for parameter in found:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in found)


def leave_positions(model: Any) -> int:
    """Stop tables of positions from training that are computed, not learned (Marian, Pegasus).

    No gradient reaches them, and processes that exchange gradients would wait for it. Returns how many numbers.
    """
    import torch

    modules = (module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    found = [module.weight for module in modules if "Sinusoidal" in type(module).__name__]
    for parameter in found:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in found)


def keep_every_layer(model: Any) -> bool:
    """Have a model leave out no layers at random (LayerDrop: arXiv:1909.11556). Returns whether it did."""
    dropping = [module for module in model.modules() if getattr(module, "layerdrop", 0)]
    for module in dropping:
        module.layerdrop = 0.0
    return bool(dropping)


def _matches(pattern: str, name: str, parameter: "torch.nn.Parameter", embedding_ids: set[int], base: str) -> bool:
    if pattern == "embeddings":
        return id(parameter) in embedding_ids or "embeddings." in name
    if pattern == "encoder":
        return name.startswith(base)
    if pattern.startswith("layers:"):
        layer = layer_of(name)
        return layer is not None and layer < int(pattern.removeprefix("layers:"))
    return fnmatch.fnmatchcase(name, pattern)


def add_lora(model: Any, config: LoraConfig, task_type: str | None) -> Any:
    """Wrap a model in low-rank adapters; the task's head trains in full.

    Args:
        task_type: peft's name of the task (`SEQ_CLS`, `TOKEN_CLS`, …), by which it finds the head.
    """
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = config.target_modules
    settings = PeftConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=task_type,
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        layers = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
        raise ConfigError(
            f"training.lora.target_modules: found {targets!r}: {error}; the linear layers are named {', '.join(layers)}"
        ) from error


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)


def merge_lora(model: Any) -> Any:
    """Fold adapters into the weights they adapt: a plain transformers model again."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def layer_stack(model: Any, setting: str) -> Any:
    """The ModuleList of a model's layers.

    Raises:
        ModelError: with the setting that needs it, of a model that isn't one stack of layers.
    """
    from torch.nn import ModuleList

    from ..errors import ModelError

    total = getattr(model.config, "num_hidden_layers", 0)
    stacks = [module for module in model.modules() if isinstance(module, ModuleList) and len(module) == total]
    if len(stacks) != 1 or getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{setting}: {type(model).__name__} is not one stack of layers; leave it out")
    return stacks[0]


def keep_layers(model: Any, wanted: list[int] | int) -> None:
    """Keep some of a model's layers, in place and in its config: a student that starts from its teacher's weights.

    Args:
        wanted: the layers' places from 0 on, in their order; or how many, evenly spread with the first and the last.

    Raises:
        ModelError: there are no such layers, or the model isn't one stack of like layers.
    """
    import numpy as np
    from torch.nn import ModuleList

    from ..errors import ModelError

    config, stack = model.config, layer_stack(model, "model.layers")
    total, kinds = len(stack), getattr(config, "layer_types", None)
    if kinds and len(set(kinds)) > 1:
        raise ModelError(f"model.layers: the layers of {type(model).__name__} are not alike; leave it out")
    chosen = wanted if isinstance(wanted, list) else np.linspace(0, total - 1, wanted).round().astype(int).tolist()
    if not 0 < len(chosen) <= total or sorted(set(chosen)) != chosen or chosen[-1] >= total:
        raise ModelError(
            f"model.layers: found {wanted}, expected ascending places from 0 to {total - 1}, or 1 to {total} of them"
        )
    parent, name = next((p, n) for p in model.modules() for n, child in p.named_children() if child is stack)
    setattr(parent, name, ModuleList(stack[place] for place in chosen))
    config.num_hidden_layers = len(chosen)
    if kinds:
        config.layer_types = kinds[: len(chosen)]
