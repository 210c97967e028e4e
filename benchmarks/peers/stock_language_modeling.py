#!/usr/bin/env python
"""The peer for language models: the stock Trainer on TinyShakespeare, causal or masked, from scratch, one run a call.

Settings shared with the recipes: the same new model and tokenizer, every row a document between the tokenizer's marks,
long ones in pieces, as many rows a batch as make 4,096 tokens on average, AdamW (fused), warm-up over a twentieth of
the steps, clipping at 1.0, bfloat16 autocast; rows drawn at random (or, with --sampling group_by_length, of like length
in a batch), padded to the longest. All training rows are trained on, the last weights are scored by the same rules as
ours: each token from those before it in its document, or from a pass in which its word is hidden, every eighth word at
once.

Prints one JSON line, as cross_encoder.py does.

  python stock_language_modeling.py --task causal --data DATA --tokenizer FOLDER --seed 1
"""

import argparse
import math
import tempfile
from typing import Any

import torch
from datasets import Dataset
from shared import Clock, options, print_answer, read_rows, stock_settings
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

SHAPE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6}
TOKENS, FOLDS, HIDDEN = 4096, 8, 0.15
# epochs, learning rate, longest piece in tokens, schedule, weight decay
TASKS = {"causal": (8, 3e-3, 256, "cosine", 0.1), "masked": (10, 1e-3, 128, "linear", 0.01)}


def documents(tokenizer: Any, texts: list[str], most: int) -> list[dict[str, list[int]]]:
    """Pieces of documents for a causal model: each token but the mark of the beginning is foreseen once."""
    last = tokenizer.eos_token_id
    first = last if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    pieces = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        whole = [mark for mark in [first] if mark is not None] + ids + [mark for mark in [last] if mark is not None]
        pieces += [{"input_ids": whole[i : i + most + 1]} for i in range(0, max(1, len(whole) - 1), most)]
    return pieces


def hidden_documents(tokenizer: Any, texts: list[str], most: int) -> list[dict[str, Any]]:
    """Pieces of documents for a masked model, with the number of the word of each token, -1 for marks."""
    found = tokenizer(
        texts, truncation=True, max_length=most, return_overflowing_tokens=True, return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )  # fmt: skip
    names = ("input_ids", "offset_mapping", "special_tokens_mask")
    words = [[-1 if word is None else word for word in found.word_ids(i)] for i in range(len(found["input_ids"]))]
    return [
        {name: found[name][i] for name in names} | {"words": words[i]} for i in range(len(words))
    ]  # fmt: skip


class WholeWords(DataCollatorForLanguageModeling):
    """The stock collator, with the places that it hides words by filled up as it fills up ids."""

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        longest = max(len(example["input_ids"]) for example in examples)
        filled = [
            example | {"offset_mapping": example["offset_mapping"] + [(0, 0)] * (longest - len(example["input_ids"]))}
            for example in examples
        ]
        return super().torch_call(filled)


@torch.no_grad()
def likelihood(model: Any, tokenizer: Any, pieces: list[dict[str, Any]], masked: bool) -> tuple[float, int]:
    """(negative log-likelihood in nats, tokens) over all pieces."""
    nats, tokens = 0.0, 0
    for begin in range(0, len(pieces), 32):
        part = pieces[begin : begin + 32]
        longest = max(len(piece["input_ids"]) for piece in part)

        def padded(name: str, pad: int, part: Any = part, longest: int = longest) -> torch.Tensor:
            rows = [piece[name] + [pad] * (longest - len(piece[name])) for piece in part]
            return torch.tensor(rows, device=model.device)

        ids = padded("input_ids", tokenizer.pad_token_id)
        lengths = torch.tensor([len(piece["input_ids"]) for piece in part], device=model.device)
        there = torch.arange(longest, device=model.device) < lengths[:, None]
        if not masked:
            logits = model(input_ids=ids, attention_mask=there.long()).logits[:, :-1].float()
            right = there[:, 1:]
            nats += float(torch.nn.functional.cross_entropy(logits[right], ids[:, 1:][right], reduction="sum"))
            tokens += int(right.sum())
            continue
        words = padded("words", -1)
        for fold in range(FOLDS):
            where = (words >= 0) & (words % FOLDS == fold)
            if bool(where.any()):
                hidden = ids.masked_fill(where, tokenizer.mask_token_id)
                logits = model(input_ids=hidden, attention_mask=there.long()).logits[where].float()
                nats += float(torch.nn.functional.cross_entropy(logits, ids[where], reduction="sum"))
                tokens += int(where.sum())
    return nats, tokens


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    set_seed(args.seed)
    masked = args.task == "masked"
    epochs, rate, most, schedule, decay = TASKS[args.task]
    args.epochs, args.learning_rate = args.epochs or epochs, args.learning_rate or rate
    folder = args.data / "tinyshakespeare"
    train, test = (
        [row["text"] for row in read_rows(folder / f"{split}.jsonl", limit)]
        for split, limit in (("train", args.max_train_rows), ("test", None))
    )
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    marks = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
             "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    if masked:
        model: Any = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SHAPE, **marks))
        collator: Any = WholeWords(
            tokenizer, mlm_probability=HIDDEN, whole_word_mask=True, mask_replace_prob=1, random_replace_prob=0
        )
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **SHAPE, **marks))
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    cut = hidden_documents if masked else documents
    pieces, tested = cut(tokenizer, train, most), cut(tokenizer, test, most)
    args.max_length = most
    args.batch_size = round(TOKENS * len(pieces) / sum(len(piece["input_ids"]) for piece in pieces))
    rows = Dataset.from_list([{k: v for k, v in piece.items() if k != "words"} for piece in pieces])
    with tempfile.TemporaryDirectory(prefix="stock_language_modeling_") as place:
        settings = stock_settings(args, lr_scheduler_type=schedule, warmup_steps=0.05, weight_decay=decay,
                                  train_sampling_strategy=args.sampling, remove_unused_columns=False)  # fmt: skip
        trainer = Trainer(
            model=model,
            args=TrainingArguments(place, **settings),
            train_dataset=rows,
            data_collator=collator,
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
    nats, tokens = likelihood(trainer.model.eval(), tokenizer, tested, masked)
    size = sum(len(text.encode()) for text in test)
    scores = {"perplexity": math.exp(nats / tokens), "bits_per_byte": nats / math.log(2) / size, "tokens": tokens}
    clock.mark("test")
    print_answer("stock_language_modeling", args, scores, clock, {"train": train, "test": test})


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "causal", epochs=None, learning_rate=None)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--sampling", choices=("random", "group_by_length"), default="random")
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
