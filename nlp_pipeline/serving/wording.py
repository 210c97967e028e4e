"""What is said of a request that isn't one."""

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 5


def validation_text(problems: Sequence[Mapping[str, Any] | Any]) -> str:
    """What is wrong with a body, without the values that were sent: they may be large, or nobody's business."""
    said = []
    for problem in problems[:SHOWN]:
        place = ".".join(str(part) for part in problem["loc"] if part != "body")
        said.append(f"{place}: {problem['msg']}" if place else str(problem["msg"]))
    more = [f"{len(problems) - SHOWN} more problems"] if len(problems) > SHOWN else []
    return "; ".join([*said, *more])
