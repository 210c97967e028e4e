"""From token states to one vector a text, and the files by which sentence-transformers does the same."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..run_directory import write_text

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]


def pooled(states: "torch.Tensor", mask: "torch.Tensor", pooling: Pooling) -> "torch.Tensor":
    """float32[texts, features]: the mean over each text's tokens, or the state of its first one.

    Args:
        states: [texts, longest, features].
        mask: int[texts, longest], 1 where there is a token.
    """
    if pooling == "cls":
        return states[:, 0].float()
    weights = mask[..., None].float()
    return (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def unit(vectors: "torch.Tensor") -> "torch.Tensor":
    """Vectors of length 1."""
    import torch.nn.functional as F

    return F.normalize(vectors, dim=-1)


def write_modules(folder: Path, model: Any, max_length: int, pooling: Pooling, normalize: bool) -> None:
    """Write what sentence-transformers reads beside a transformers model: its modules and their settings.

    Under the names that its versions have read since 2.0.
    """
    names = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    paths = [f"{i}_{name}" if i else "" for i, name in enumerate(names)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    modes = {"cls_token": pooling == "cls", "mean_tokens": pooling == "mean", "max_tokens": False}
    features = {"word_embedding_dimension": model.config.hidden_size}
    pooling_settings = features | {f"pooling_mode_{name}": chosen for name, chosen in modes.items()}
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    for name, content in (
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "cosine"}),
        ("1_Pooling/config.json", pooling_settings),
    ):
        write_text(folder / name, json.dumps(content, indent=2) + "\n")
