"""Bad numbers in one of two processes under a gradient scaler: both leave out, or make again, the same steps."""

import json
from itertools import pairwise

import pytest
from multi_process.launching import REPOSITORY, launch

pytestmark = pytest.mark.multi_process
SCALING = REPOSITORY / "tests" / "multi_process" / "scaling.py"


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_agree_on_the_steps_that_one_of_them_could_not_make(tiny_bert, tmp_path, rank):
    faults = f"{rank}:2:gradient,{rank}:3:once,{rank}:4:always"
    done = launch(SCALING, 2, tiny_bert, tmp_path, faults, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    mine, other = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (rank, 1 - rank))
    assert mine == other
    steps = mine["steps"]
    weights = [step["weights"] for step in steps]
    assert [a != b for a, b in pairwise(weights)] == [False, True, False, True]
    # Gradients that are too large leave the next scale smaller; losses that are no numbers are none of its business.
    assert [step["scale"] for step in steps] == [2.0**10, *[2.0**9] * 4]
    assert [step["finite"] for step in steps] == [True, True, True, False, True]
    assert mine["overflows"] == [3]
    assert list(mine["skipped"]) == ["4"]
    assert len(mine["skipped"]["4"]) == 4  # that process's share of the rows
