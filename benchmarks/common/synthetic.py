"""Models with random weights and texts of a wanted length, for benchmarks whose answer does not depend on meaning."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = 8
COMMON_WORDS = 20_000
"""Different words that the texts are made of; word number n is as frequent as 1 / n."""
POSITIONS = 2048
"""Positions of every model: BERT's own 512 would leave no room around a mean of 512."""
SHAPES = ("bert-base", "modernbert-base", "qwen3-0.6b")


def config_of(shape: str, small: bool) -> Any:
    """The transformers config of a shape; `small` keeps its layers' kind with 6 of them, 384 wide, 30,522 tokens."""
    import transformers

    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    sizes: dict[str, Any] = {"max_position_embeddings": POSITIONS, **ids}
    if small:
        sizes |= {"hidden_size": 384, "num_hidden_layers": 6, "vocab_size": 30_522}
    if shape == "bert-base":
        sizes |= {"num_attention_heads": 6, "intermediate_size": 1536} if small else {}
        return transformers.BertConfig(**sizes)
    if shape == "modernbert-base":
        sizes |= {"num_attention_heads": 6, "intermediate_size": 576} if small else {}
        return transformers.ModernBertConfig(**sizes, cls_token_id=2, sep_token_id=3)
    heads = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 64, "intermediate_size": 1152}
    full = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
            "hidden_size": 1024, "num_hidden_layers": 28, "vocab_size": 151_936}  # fmt: skip
    return transformers.Qwen3Config(**(full | sizes | (heads if small else {})), tie_word_embeddings=True)


def save_model(folder: Path, config: Any, words: Iterable[str] = ()) -> Path:
    """Random weights of this config, and a tokenizer of whole words: `words`, filled up to the vocabulary's size."""
    import torch
    from transformers import AutoModel, BertTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokens = dict.fromkeys([*SPECIAL, *words])
    tokens |= dict.fromkeys(f"filler{i}" for i in range(config.vocab_size - len(tokens)))
    BertTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        do_lower_case=True,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=config.max_position_embeddings,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def word(number: int) -> str:
    """The nth most frequent word: letters only, so that no tokenizer takes it apart."""
    letters = []
    while number:
        number, digit = divmod(number, 26)
        letters.append(chr(ord("a") + digit))
    return "x" + "".join(letters)


def lengths_around(mean: int, rows: int, seed: int = 0) -> np.ndarray:
    """int64[rows], tokens a row with [CLS] and [SEP]: log-normal as texts are (sigma 0.5), at most twice the mean."""
    # Less half the variance makes `mean` the mean; what the limits cut off is made up for.
    drawn = np.random.default_rng(seed).lognormal(np.log(1.055 * mean) - 0.125, 0.5, rows)
    return np.clip(drawn, 4, 2 * mean).astype(np.int64)


def write_texts(file: Path, lengths: np.ndarray, seed: int = 0) -> Path:
    """JSON Lines of texts with so many tokens, [CLS] and [SEP] counted, and one of LABELS labels."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, COMMON_WORDS + 1)
    words = np.array([word(i) for i in range(COMMON_WORDS)])
    drawn = rng.choice(words, int((lengths - 2).sum()), p=shares / shares.sum())
    with file.open("w", encoding="utf-8") as out:
        for row, own in enumerate(np.split(drawn, np.cumsum(lengths - 2)[:-1])):
            out.write(json.dumps({"text": " ".join(own), "label": f"label {row % LABELS}"}) + "\n")
    return file


def training_flops(config: Any, lengths: np.ndarray) -> float:
    """Floating point operations of the products in one epoch's forward and backward passes over real tokens.

    Six for each weight of a linear layer and token; twelve for each feature of attention and pair of tokens that see
    each other (Narayanan et al. 2021, arXiv:2104.04473, without recomputation). Embeddings and the head are left out.
    """
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        modules = AutoModel.from_config(config).named_modules()
    weights = sum(m.weight.numel() for n, m in modules if isinstance(m, torch.nn.Linear) and "pooler" not in n)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = lengths.astype(np.float64)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    pairs = 0.0
    for kind in kinds:
        reach = sizes if kind == "full_attention" else np.minimum(sizes, config.local_attention + 1)
        pairs += float((sizes * reach).sum())
    if config.model_type == "qwen3":  # causal: half of the pairs
        pairs /= 2
    return 6 * weights * float(sizes.sum()) + 12 * config.num_attention_heads * head * pairs
