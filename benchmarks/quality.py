#!/usr/bin/env python
"""Are our scores those of the field? The same rows, model, settings and seeds as the stock Trainer or trl, in turn.

Runs `nlp-pipeline train` on the recipe of each task and benchmarks/peers/stock_trainer.py on the same files (of
reranking cross_encoder.py there, and so on), appends a JSON line a run to --results, skips what is there already, and
prints the table.

  python benchmarks/quality.py --data DATA --seeds 1 2 3
  python benchmarks/quality.py --data DATA --tasks wnut17 --table-only
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

from common.runs import RECIPES, answer_of, minilm, train_ours

# task: (recipe, splits, our metric, the peer's metric)
TASKS = {
    "wnut17": ("token-classification/wnut17.yaml", ("train", "validation", "test"), "f1", "f1"),
    "nlupp_banking": ("text-classification/nlupp-banking.yaml", ("train", "test"), "f1_micro", "micro_f1"),
    "sick_relatedness": (
        "text-classification/sick-relatedness.yaml", ("train", "validation", "test"), "spearman", "spearman",
    ),
    "sick_entailment": (
        "text-classification/sick-entailment.yaml", ("train", "validation", "test"), "accuracy", "accuracy",
    ),
    "sick_reranking": ("text-ranking/sick.yaml", ("train", "validation", "test"), "spearman", "spearman"),
    "sick_embedding": ("sentence-similarity/sick.yaml", ("train", "validation", "test"), "spearman", "spearman"),
    "banking77_8": ("few-shot-classification/banking77-8.yaml", ("train", "test"), "accuracy", "accuracy"),
    "gsm8k": ("instruction-tuning/gsm8k.yaml", ("train", "test"), "perplexity", "perplexity"),
    "e2e_nlg": ("text2text-generation/e2e-nlg.yaml", ("train", "test"), "bleu", "bleu"),
    "xquad_en_de": ("translation/xquad-en-de.yaml", ("train", "test"), "bleu", "bleu"),
    "xquad_en": ("question-answering/xquad.yaml", ("train", "test"), "f1", "f1"),
    "tinyshakespeare_causal": ("text-generation/tinyshakespeare.yaml", ("train", "test"), "perplexity", "perplexity"),
    "tinyshakespeare_masked": (
        "fill-mask/tinyshakespeare-from-scratch.yaml", ("train", "test"), "pseudo_perplexity", "perplexity",
    ),
    "gsm8k_pairs": (
        "preference-tuning/gsm8k-pairs.yaml", ("train", "test"), "preference_accuracy", "preference_accuracy",
    ),
}  # fmt: skip
# task: (the peer, its program with its words, our further settings), where that isn't the stock
# Trainer. {data} is the --data folder (of the gsm8k tasks what benchmarks/chat_data.py made, of banking77_8 what
# few_shot_data.py did, a folder a seed), {model} is MiniLM, {tokenizers} a folder of tokenizers as the recipes' first
# lines make them
PEERS = {
    "sick_reranking": (
        "sentence-transformers", ["cross_encoder.py", "--task", "sick_reranking", "--model", "{model}"], [],
    ),
    "sick_embedding": ("sentence-transformers", ["sentence_transformers_peer.py", "--model", "{model}"], []),
    "banking77_8": ("setfit", ["setfit_peer.py", "--model", "{model}"], []),
    "gsm8k": (
        "trl",
        ["trl_sft.py", "--epochs", "1"],
        [
            "training.epochs=1", "model.name={data}/tokenizer", "model.architecture={data}/config.json",
            "options.samples=0",
        ],
    ),
    "e2e_nlg": (
        "stock Seq2SeqTrainer",
        ["stock_seq2seq.py", "--task", "e2e_nlg", "--tokenizer", "{tokenizers}/e2e"],
        ["model.name={tokenizers}/e2e", "data.validation_fraction=0"],
    ),
    "xquad_en_de": (
        "stock Seq2SeqTrainer",
        ["stock_seq2seq.py", "--task", "xquad_en_de", "--tokenizer", "{tokenizers}/en-de"],
        ["model.name={tokenizers}/en-de"],
    ),
    "gsm8k_pairs": ("trl", ["trl_dpo.py"], ["model.name={data}/start"]),
    "xquad_en": (
        "stock Trainer", ["stock_question_answering.py", "--model", "{model}"], ["data.validation_fraction=0"],
    ),
    "tinyshakespeare_causal": (
        "stock Trainer",
        ["stock_language_modeling.py", "--task", "causal", "--tokenizer", "{tokenizers}/tinyshakespeare"],
        ["model.name={tokenizers}/tinyshakespeare", "data.validation_fraction=0"],
    ),
    "tinyshakespeare_masked": (
        "stock Trainer",
        ["stock_language_modeling.py", "--task", "masked", "--tokenizer", "{tokenizers}/tinyshakespeare-encoder"],
        ["model.name={tokenizers}/tinyshakespeare-encoder", "data.validation_fraction=0"],
    ),
}  # fmt: skip

OURS = "nlp-pipeline"
TOKENIZERS = Path("tokenizers")
NEED_MORE = {
    "gsm8k", "gsm8k_pairs", "banking77_8", "e2e_nlg", "xquad_en_de", "tinyshakespeare_causal", "tinyshakespeare_masked",
}  # fmt: skip
"""Tasks whose data, tokenizer or first model is made before they are run."""


def peer_of(task: str) -> str:
    """Whom we are compared with."""
    return PEERS[task][0] if task in PEERS else "stock Trainer"


def run_ours(task: str, seed: int, data: Path) -> dict:
    recipe, splits, metric, _ = TASKS[task]
    shared = next((name for name in ("sick", "tinyshakespeare") if task.startswith(name)), None)
    folder = data / (shared or (f"{task}_{seed}" if task == "banking77_8" else task))
    files = [f"data.{split}={folder / (split + '.jsonl')}" for split in splits]
    more = [setting.format(data=data, tokenizers=TOKENIZERS) for setting in PEERS[task][2]] if task in PEERS else []
    figures = train_ours(RECIPES / recipe, [*files, *more, f"training.seed={seed}"])
    return {"score": figures["scores"][metric], **figures}


def run_peer(task: str, seed: int, data: Path, python: str) -> dict:
    name, *words = PEERS[task][1] if task in PEERS else ("stock_trainer.py", "--task", task, "--model", "{model}")
    program = Path(__file__).parent / "peers" / name
    words = [word.format(model=minilm(), tokenizers=TOKENIZERS) for word in words]
    command = [python, str(program), *words, "--data", str(data), "--seed", str(seed)]
    began = time.perf_counter()
    line = answer_of(command)
    return {"score": line["scores"][TASKS[task][3]], "train_s": line["seconds"]["train"],
            "all_but_test_s": line["seconds"]["setup"] + line["seconds"]["train"],
            "process_s": time.perf_counter() - began, "scores": line["scores"]}  # fmt: skip


def processor_seconds() -> float:
    """That all programs took which ended so far; other work on the machine hardly changes it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def done(results: Path) -> dict[tuple[str, str, int], dict]:
    lines = results.read_text().splitlines() if results.exists() else []
    entries = [json.loads(line) for line in lines]
    return {(entry["task"], entry["who"], entry["seed"]): entry for entry in entries}


def print_table(entries: dict[tuple[str, str, int], dict]) -> None:
    print("| task | metric | who | seeds | mean | each | train seconds (median) | processor seconds of all (median) |")
    print("|---|---|---|---|---|---|---|---|")
    for task, (_, _, metric, _) in TASKS.items():
        for who in (OURS, peer_of(task)):
            found = [entry for (t, w, _), entry in sorted(entries.items()) if (t, w) == (task, who)]
            if found:
                scores = [entry["score"] for entry in found]
                each = ", ".join(f"{score:.4f}" for score in scores)
                seconds = statistics.median(entry["train_s"] for entry in found)
                processor = [entry["processor_s"] for entry in found if "processor_s" in entry]
                of_all = f"{statistics.median(processor):.0f}" if processor else "not read"
                mean = statistics.mean(scores)
                print(f"| {task} | {metric} | {who} | {len(found)} | {mean:.4f} | {each} | {seconds:.0f} | {of_all} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds wnut17/, nlupp_banking/ and sick/")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[name for name in TASKS if name not in NEED_MORE])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--who", choices=("both", "ours", "peer"), default="both")
    parser.add_argument("--results", type=Path, default=Path("runs/quality.jsonl"))
    parser.add_argument(
        "--peer-python", default=sys.executable, help="Python of an environment with the peer's packages"
    )
    parser.add_argument("--table-only", action="store_true", help="train nothing, print what there is")
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)

    for seed in () if args.table_only else args.seeds:
        for task in args.tasks:
            for who in {"both": (OURS, peer_of(task)), "ours": (OURS,), "peer": (peer_of(task),)}[args.who]:
                if (task, who, seed) in done(args.results):
                    continue
                ours, before = who == OURS, processor_seconds()
                figures = run_ours(task, seed, args.data) if ours else run_peer(task, seed, args.data, args.peer_python)
                figures["processor_s"] = processor_seconds() - before
                line = json.dumps({"task": task, "who": who, "seed": seed, **figures})
                with open(args.results, "a") as file:
                    file.write(line + "\n")
                print(line, flush=True)
    print_table(done(args.results))


if __name__ == "__main__":
    main()
