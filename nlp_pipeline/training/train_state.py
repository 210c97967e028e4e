"""Where a run of training stands, as a checkpoint keeps it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import START_ANEW, CheckpointError
from ..run_directory import read_json

STATE = "state.json"


@dataclass
class TrainState:
    """Where training stands.

    `step` counts optimizer steps done, of `total_steps` planned; `best_step` is the evaluation that `best_score` was
    read at; `stale` counts evaluations since then; `examples` counts rows seen; `skipped` counts steps left out for a
    bad number, `splits` for each process how often memory ran out under the settings
    `splits_under`. `evaluations` are the metric log's entries of
    evaluations, `log_size` is the log's length in bytes and `losses` what is known of the usual loss.
    """

    step: int = 0
    total_steps: int = 0
    examples: int = 0
    best_score: float | None = None
    best_step: int | None = None
    stale: int = 0
    seconds: float = 0.0
    skipped: int = 0
    splits: list[int] = field(default_factory=list)
    splits_under: str = ""
    scaler: dict[str, float] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    log_size: int | None = None
    losses: dict[str, float] = field(default_factory=dict)


def read_state(path: Path) -> tuple[TrainState, dict[str, Any]]:
    """Where training stood, and the identity of the run.

    Raises:
        CheckpointError: the file is not what this version writes.
    """
    import pydantic

    content = read_json(path / STATE)
    state, identity = content.get("state"), content.get("identity")
    problem = "it lacks a part"
    if isinstance(state, dict) and isinstance(identity, dict):
        if unknown := sorted(state.keys() - TrainState.__dataclass_fields__.keys()):
            problem = f"{', '.join(unknown)}: unknown"
        else:
            try:
                read = pydantic.TypeAdapter(TrainState).validate_json(json.dumps(state), strict=True)
            except pydantic.ValidationError as error:
                problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            else:
                if name_of(read.step) == path.name:
                    return read, identity
                problem = f"it is of step {read.step:,}"
    raise CheckpointError(f"{path / STATE} is not what this version writes ({problem}); {START_ANEW}")


def name_of(step: int) -> str:
    """A name that sorts by step."""
    return f"step-{step:09d}"
