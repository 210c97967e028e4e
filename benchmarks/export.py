#!/usr/bin/env python
"""What does each exported form of a model cost and keep? Size, speed on the CPU, score, differences over a test set.

Exports a finished run to every target (each is checked over the whole test set on the way) and prints the table; then
the same for every choice of 8-bit weights, to show by what the first one was chosen.

  nlp-pipeline train recipes/text-classification/banking77.yaml
  python benchmarks/export.py --run runs/banking77 --rows data/banking77/test.jsonl
"""

import argparse
import tempfile
from pathlib import Path


def line(name: str, megabytes: float, speed: float, score: float, largest: float | None, differing: str) -> str:
    gap = "–" if largest is None else f"{largest:.2g}"
    return f"| {name} | {megabytes:,.1f} | {speed:,.1f} | {score:.4f} | {gap} | {differing} |"


def head(metric: str) -> str:
    return (
        f"| form | MB | rows/s | {metric} | largest logit difference | labels that differ |\n|---|---|---|---|---|---|"
    )


def int8_choices(run: Path, rows: str, most: int) -> None:
    """Every choice of what is brought to 8 bits, measured in turn beside the float graph."""
    from nlp_pipeline import Recipe
    from nlp_pipeline.export import int8_target
    from nlp_pipeline.export.checking import compare
    from nlp_pipeline.export.exporting import prepare
    from nlp_pipeline.export.folder import megabytes
    from nlp_pipeline.export.measuring import speeds
    from nlp_pipeline.export.onnx_model import OnnxModel
    from nlp_pipeline.export.onnx_target import write_onnx
    from nlp_pipeline.progress import Reporter

    source = prepare(Recipe.from_pretrained(run), run, rows, most, 1e-4, 0.01, Reporter(active=False))
    models, sizes, checks = {}, {}, {}
    with tempfile.TemporaryDirectory() as place:
        for number, choice in enumerate(int8_target.CHOICES):
            name = f"{choice['weights']}, {7 if choice['reduce_range'] else 8} bits"
            folder = Path(place) / str(number)
            write_onnx(int8_target.quantized(source.onnx_graph(), source.inputs, choice), folder)
            models[name], sizes[name] = OnnxModel(folder, source.model.config), megabytes(folder)
            checks[name] = compare(source.recipe, source.model, models[name], source.rows, source.expected, 1e-4)
        found = speeds(source.recipe, models, source.rows)
    print(f"\n{head(source.recipe.best_metric)}")
    for name, check in checks.items():
        differing = f"{check.differing} of {check.compared:,}"
        print(line(name, sizes[name], found[name], check.judged.score or 0.0, check.largest, differing))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run directory")
    parser.add_argument("--rows", required=True, help="a file with labelled rows")
    parser.add_argument("--most-rows", type=int, default=1_000_000)
    parser.add_argument("--only-int8", action="store_true", help="only the choices of 8-bit weights")
    args = parser.parse_args()
    from nlp_pipeline.export.exporting import export
    from nlp_pipeline.export.targets import TARGETS

    if not args.only_int8:
        with tempfile.TemporaryDirectory() as place:
            made = export(args.run, list(TARGETS), Path(place), rows=args.rows, most_rows=args.most_rows)
        print(f"\n{made['rows']}, {made['threads']} threads\n\n{head(made['metric'])}")
        for each in made["variants"]:
            differing = "–" if each["differing"] is None else f"{each['differing']} of {each['compared']:,}"
            shown = (each["megabytes"], each["rows_per_second"], each["score"], each["largest"], differing)
            print(line(each["name"], *shown))
    int8_choices(args.run, args.rows, args.most_rows)


if __name__ == "__main__":
    main()
