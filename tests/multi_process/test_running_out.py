"""Memory that runs out in one of two processes: it cuts its passes, no step is lost and none is changed."""

import json

import numpy as np
import pytest
from multi_process.launching import REPOSITORY, TRAIN, launch
from safetensors.numpy import load_file

from nlp_pipeline.training.checkpoint_folder import list_checkpoints

pytestmark = pytest.mark.multi_process
RUNNING_OUT = REPOSITORY / "tests" / "multi_process" / "running_out.py"
TEXTS = ["the card is late", "money is broken please", "where is my parcel", "thank you"]
KINDS = {
    "text-classification": [{"text": f"{TEXTS[i % 4]} " * (1 + i % 5), "label": "abcd"[i % 4]} for i in range(40)],
    # The loss is over the whole batch: representations are exchanged before the gradients.
    "sentence-similarity": [
        {"anchor": f"{TEXTS[i % 4]} {i} " * (1 + i % 3), "positive": f"{i} {TEXTS[i % 4]}"} for i in range(40)
    ],
}
FAULTS = {
    # In the first step gradients go in other portions than later.
    "in the exchange": ["1:1:layer", "0:3:loss", "0:5:layer", "1:5:layer"],
    "before it": ["0:1:first", "1:1:last", "1:3:last", "0:4:first"],
    "in both": ["1:2:last", "0:2:layer", "0:3:loss", "1:3:first", "1:4:loss"],
}


@pytest.fixture(scope="module", params=KINDS)
def recipe(request, tmp_path_factory, tiny_bert):
    """A recipe, and the folder of its run by one process that has enough memory."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in KINDS[request.param]))
    still = {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    settings = {
        "task": request.param,
        "model": still,
        "data": {"train": str(folder / "rows.jsonl")},
        "batch": {"size": 16},
        "training": {"max_steps": 6, "learning_rate": 3e-3, "precision": "fp32", "log_every": 1, "warmup": 0},
        "checkpoint": {"every": 2},
    }
    (folder / "x.yaml").write_text(json.dumps(settings))
    done = launch(TRAIN, 1, folder / "x.yaml", f"output.dir={folder / 'whole'}")
    assert done.returncode == 0, done.stderr
    return folder / "x.yaml", folder / "whole"


@pytest.mark.parametrize(("faults", "late"), [*((faults, "at-once") for faults in FAULTS), ("in both", "late")])
def test_the_process_cuts_its_passes_and_the_weights_stay_the_same(recipe, tmp_path, faults, late):
    """`late`: as on CUDA, where a step's numbers are looked at after the next one's gradient."""
    file, whole = recipe
    done = launch(RUNNING_OUT, 2, late, ",".join(FAULTS[faults]), file, f"output.dir={tmp_path / 'run'}", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        assert f"process {rank} has not met: []" in done.stdout
    assert "memory ran out: forward passes were cut into" in done.stdout
    splits = [sum(fault.startswith(f"{rank}:") for fault in FAULTS[faults]) for rank in (0, 1)]
    last = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert json.loads((last / "state.json").read_text())["state"]["splits"] == splits
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (tmp_path / "run", whole))
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5, err_msg=name)
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (tmp_path / "run", whole)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_in_shards_it_ends_the_run_and_says_why(recipe, tmp_path):
    file, _ = recipe
    if "text-classification" not in str(file):
        pytest.skip("one task is enough")
    words = ("1:3:first", file, f"output.dir={tmp_path / 'run'}")
    done = launch(RUNNING_OUT, 2, "at-once", *words, timeout=120, fsdp=True)
    assert done.returncode != 0
    assert "step 3 does not fit into memory (no memory). The processes share the model (FSDP)" in done.stderr
    assert "set batch.micro below 4" in done.stderr
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-000000002"]
