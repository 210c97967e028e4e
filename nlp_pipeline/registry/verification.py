"""A packed model checked in a clean process: loaded from its files alone, its predictions compared with the run's.

`check` starts the process, `python -m nlp_pipeline.registry.verification FOLDER SAMPLE` is the process.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nlp_pipeline

from ..errors import NlpPipelineError, RegistryError

TOLERANCE = 1e-3
"""Largest difference of a number, absolute or relative: other devices sum in another order. Texts must be equal."""
SHOWN = 5
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells its processes: the clean one is alone."""


def check(folder: Path, sample: Path, trust_remote_code: bool = False) -> int:
    """Load a model folder in a clean process and compare its predictions with a sample's.

    Args:
        trust_remote_code: run code that the model names, as `Recipe.from_pretrained` has it.

    Returns:
        How many rows were compared.

    Raises:
        RegistryError: with the rows that differ, or why it can't be loaded.
    """
    package = str(Path(nlp_pipeline.__file__).parents[1])
    kept = {k: v for k, v in os.environ.items() if k not in LAUNCHER and not k.startswith(("ACCELERATE_", "FSDP_"))}
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    environment = kept | {"PYTHONPATH": path, "ACCELERATE_USE_CPU": "true"}
    words = ["-P", "-m", __name__, str(folder), str(sample), *(["--trust-remote-code"] if trust_remote_code else [])]
    answer = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    try:
        outcome = json.loads(answer.stdout.splitlines()[-1])
        rows, problems = int(outcome["rows"]), list(outcome["problems"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = "\n".join(answer.stderr.strip().splitlines()[-5:])
        raise RegistryError(
            f"the packed model can't be checked: its process ended with {answer.returncode}: {last}"
        ) from None
    if problems:
        raise RegistryError(problems)
    return rows


def compare(folder: Path, sample: Path, trust_remote_code: bool = False) -> dict[str, Any]:
    """`rows` compared and `problems`, in this process."""
    from ..recipe import Recipe

    entries = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    recipe = Recipe.from_pretrained(folder, trust_remote_code)
    found = recipe.predict([entry["row"] for entry in entries], exact=True)
    pairs = [
        (_without_id(entry["expected"]), _without_id(record)) for entry, record in zip(entries, found, strict=True)
    ]
    expected = json.loads(json.dumps(pairs, default=str))
    different = [(number, then, now) for number, (then, now) in enumerate(expected, 1) if not same(then, now)]
    problems = [
        f"row {number} of the sample: the run predicted {_short(then)}, the packed model {_short(now)}"
        for number, then, now in different[:SHOWN]
    ]
    if len(different) > SHOWN:
        problems.append(f"{len(different) - SHOWN} more of {len(entries)} rows differ")
    return {"rows": len(entries), "problems": problems}


def same(then: Any, now: Any) -> bool:
    """Whether two values of predictions are equal, numbers up to the tolerance."""
    if isinstance(then, dict) and isinstance(now, dict):
        return then.keys() == now.keys() and all(same(then[key], now[key]) for key in then)
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(same, then, now))
    if isinstance(then, float) and isinstance(now, float | int):
        return math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(then == now)


def _without_id(record: dict[str, Any]) -> dict[str, Any]:
    from ..run_directory import finite

    return {key: finite(value) for key, value in record.items() if key != "row_id"}


def _short(record: Any) -> str:
    text = json.dumps(record, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"


def main(arguments: list[str]) -> None:
    """The clean process: prints one line of JSON."""
    try:
        outcome = compare(Path(arguments[0]), Path(arguments[1]), "--trust-remote-code" in arguments)
    except NlpPipelineError as error:
        outcome = {"rows": 0, "problems": error.problems}
    print("\n" + json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
