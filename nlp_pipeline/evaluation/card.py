"""The model card: valid Hub metadata, and the figures of exactly these weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..run_directory import finite, write_text
from ..secrets import hide, public
from .report import interval

if TYPE_CHECKING:
    from ..recipe import Recipe


def write_card(recipe: "Recipe", results: Mapping[str, Any]) -> None:
    """Write `model/README.md`; a card is published, so nothing secret may be in it."""
    write_text(recipe.run_directory.model / "README.md", hide(card_text(recipe, results)))


def card_text(recipe: "Recipe", results: Mapping[str, Any]) -> str:
    """The card of a scored run."""
    config = recipe.config
    training = config.training
    scores = {k: v for k, v in finite(results["scores"]).items() if v is not None}
    main = {k: v for k, v in scores.items() if "/" not in k}
    data_name = _data_name(recipe)
    header = {
        "library_name": recipe.library,
        "pipeline_tag": recipe.pipeline_tag or recipe.task,
        "tags": ["nlp-pipeline"],
        "model-index": [
            {
                "name": str(config.name or recipe.task),
                "results": [
                    {
                        "task": {"type": recipe.pipeline_tag or recipe.task},
                        "dataset": {"type": "custom", "name": data_name},
                        "metrics": [{"type": k, "value": round(v, 6)} for k, v in main.items()],
                    }
                ],
            }
        ],
    }
    if recipe.config.model.name.count("/") == 1 and ":" not in recipe.config.model.name:
        header["base_model"] = recipe.config.model.name
    assert recipe.splits is not None
    counts = {split: len(rows) for split, rows in recipe.splits.parts.items()}
    baseline = results.get("baseline") or {"name": "none", "scores": {}}
    intervals = results.get("intervals") or {}
    rows = "\n".join(
        f"| {k} | {v:.4f} | {interval(intervals.get(k))} | {_cell(baseline, k)} |" for k, v in scores.items()
    )
    level = f"{results['confidence']:.0%} interval" if intervals else "interval"
    steps = results.get("training", {})
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip()}
---

# {config.name or recipe.task}

{type(recipe).__name__}: {recipe.summary}. Fine-tuned from `{config.model.name}` with nlp-pipeline.

Predicts: {recipe.predicts()}.

## Evaluation

On {results["rows"]:,} {results["split"]} rows of {data_name}, with these weights as they lie in this folder.
Baseline: {baseline["name"]}.{_about_intervals(intervals)}

| metric | this model | {level} | baseline |
|---|---|---|---|
{rows}

## Training

Rows: {", ".join(f"{n:,} {s}" for s, n in counts.items())}. Steps: {steps.get("step", "?")}, batch of
{config.batch.size}, {training.schedule} schedule from {training.learning_rate:g}, weight decay
{training.weight_decay:g}, seed {training.seed}, at most {recipe.encoder.max_length} tokens a row.
{_lora_line(recipe)}
The settings that are not the defaults:

```yaml
{_settings(recipe)}
```

## Use

```python
{recipe.usage()}
```

## Limits

The figures hold for texts like those of the training data. Nothing is known of other languages, domains or times.
"""


def _cell(baseline: Mapping[str, Any], name: str) -> str:
    value = finite(baseline["scores"].get(name))
    return "–" if value is None else f"{value:.4f}"


def _about_intervals(intervals: Mapping[str, Any]) -> str:
    return " Intervals: percentile bootstrap over these rows; another training seed is not in them." * bool(intervals)


def _lora_line(recipe: "Recipe") -> str:
    lora = recipe.config.training.lora
    return f"LoRA of rank {lora.r}, merged into these weights.\n" if lora else ""


def _settings(recipe: "Recipe") -> str:
    """What the recipe sets; without places of files, which are of one machine only."""
    chosen = recipe.config.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "output", "registry", "recipe"}
    )
    places = ("train", "validation", "test", "query")
    chosen["data"] = {name: value for name, value in chosen["data"].items() if name not in places}
    chosen["model"] = {"name": Path(recipe.config.model.name).name or recipe.config.model.name}
    chosen.get("tokenization", {}).pop("cache_dir", None)
    return str(yaml.safe_dump(public(chosen), sort_keys=False, allow_unicode=True)).strip()


def _data_name(recipe: "Recipe") -> str:
    """The data's name without its path: a card is published, folders of a machine are not."""
    source = recipe.config.data.train
    first = source[0] if isinstance(source, list) else str(source)
    if first.startswith(("hub:", "sample:", "memory:")):
        return first.partition(":")[2] if not first.startswith("memory:") else "rows given from Python"
    if "://" in first:
        return "a database query"
    parts = [part for part in first.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]
    return "/".join(parts[-2:]) if not first.startswith(("/", "~")) else parts[-1]
