"""From token states to one vector a text, and the files by which sentence-transformers does the same."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ModelError
from ..run_directory import read_json, write_text

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]
MODULES = ("Transformer", "Pooling", "Normalize")
"""sentence-transformers' names for the parts of an embedding model."""


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
    names = MODULES[: 3 if normalize else 2]
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


def read_pooling(folder: Path) -> Pooling | None:
    """How the vectors of a saved model are pooled, by sentence-transformers' files; None where there are none.

    Raises:
        ModelError: it makes vectors in a way that isn't known here.
    """
    if not (folder / "modules.json").exists():
        return None
    names = [str(module.get("type", "")).rpartition(".")[2] for module in _modules(folder)]
    settings = read_json(folder / "1_Pooling" / "config.json")
    modes = settings.get("pooling_mode") or [
        name.removeprefix("pooling_mode_").removesuffix("s").removesuffix("_token")
        for name, chosen in settings.items()
        if name.startswith("pooling_mode_") and chosen is True
    ]
    mode = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    foreign = [name for name in names if name not in MODULES]
    if foreign or mode not in ("mean", "cls"):
        raise ModelError(
            f"the model in {folder} makes vectors by {', '.join(foreign or [f'pooling {mode}'])}; expected a "
            "Transformer with mean or cls pooling, and perhaps Normalize"
        )
    return "cls" if mode == "cls" else "mean"


def read_longest(folder: Path) -> int | None:
    """Most tokens of a text that the vectors of a saved model are made of; None where sentence-transformers' file says
    nothing of it."""
    name = folder / "sentence_bert_config.json"
    found = read_json(name).get("max_seq_length") if name.exists() else None
    return found if isinstance(found, int) and found > 0 else None


def _modules(folder: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise ModelError(f"{folder / 'modules.json'} is not a list of modules; is it damaged?")
    return found
