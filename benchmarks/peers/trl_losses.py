#!/usr/bin/env python
"""trl's losses of some pairs, for a policy and another reference model, in float32: what ours must equal.

Prints one JSON line: the mean loss by trl's name for it. Needs trl, in an environment of its own.

  python trl_losses.py --data OUT --reference FOLDER --rows 16     (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from shared import read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl_dpo import as_messages

LOSSES = ("sigmoid", "ipo")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=384)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.data / "start")
    rows = Dataset.from_list([as_messages(r) for r in read_rows(args.data / "gsm8k_pairs" / "test.jsonl")[: args.rows]])
    found = {}
    for loss in LOSSES:
        policy, reference = (
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
            for path in (args.data / "start", args.reference)
        )
        with tempfile.TemporaryDirectory(prefix="trl_losses_") as folder:
            settings = DPOConfig(
                folder, per_device_train_batch_size=args.rows, loss_type=[loss], beta=0.1, bf16=False,
                max_length=args.max_length, gradient_checkpointing=False, report_to="none", use_cpu=True,
            )  # fmt: skip
            trainer = DPOTrainer(
                policy, ref_model=reference, args=settings, train_dataset=rows, processing_class=tokenizer
            )
            batch = next(iter(trainer.get_train_dataloader()))
            with torch.no_grad():
                found[loss] = float(trainer.compute_loss(policy.eval(), batch))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
