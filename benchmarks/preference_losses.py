#!/usr/bin/env python
"""Are our losses of pairs trl's? The same pairs, policy and reference model, in float32.

python benchmarks/preference_losses.py --data OUT --peer-python PYTHON     (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import json
import tempfile
from pathlib import Path

from common.runs import answer_of

OURS = {"sigmoid": "dpo", "ipo": "ipo"}


def ours(data: Path, reference: str, rows: int, loss: str, folder: str) -> float:
    """The mean loss of the first test pairs."""
    from nlp_pipeline import PreferenceTuning
    from nlp_pipeline.evaluation.prediction import mean_loss, predict_table
    from nlp_pipeline.stages.fitting import _model_to_train

    lines = (data / "gsm8k_pairs" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    recipe = PreferenceTuning(
        model=str(data / "start"), train=[json.loads(line) for line in lines], precision="fp32", max_length=384,
        options={"loss": loss, "beta": 0.1, "reference": reference}, dir=folder,
    )  # fmt: skip
    recipe.tokenize()
    model, _ = _model_to_train(recipe)
    found = predict_table(recipe, model, recipe.tables["train"], recipe.accelerator, rows)
    return mean_loss(found.losses, found.weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rows", type=int, default=16)
    args = parser.parse_args()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(5)
        reference = str(Path(folder) / "reference")
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.data / "config.json")).save_pretrained(
            reference
        )
        AutoTokenizer.from_pretrained(args.data / "tokenizer").save_pretrained(reference)
        program = str(Path(__file__).parent / "peers" / "trl_losses.py")
        words = ["--data", str(args.data), "--reference", reference, "--rows", str(args.rows)]
        theirs = answer_of([args.peer_python, program, *words])
        for name, loss in OURS.items():
            mine = ours(args.data, reference, args.rows, loss, folder)
            print(f"{loss}: ours {mine:.6f}, trl's {theirs[name]:.6f}")


if __name__ == "__main__":
    main()
