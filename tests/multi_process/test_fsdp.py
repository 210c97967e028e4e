"""Two processes that share a model in shards: the result of one process, and checkpoints that either can go on from."""

import json

import numpy as np
import pytest
from multi_process.launching import REPOSITORY, launch
from safetensors.numpy import load_file

from nlp_pipeline.training.checkpoint_folder import list_checkpoints, verify
from nlp_pipeline.training.train_state import name_of

pytestmark = pytest.mark.multi_process
TRAIN = REPOSITORY / "scripts" / "train.py"
FAULTY = REPOSITORY / "tests" / "multi_process" / "faulty.py"
WORDS = {
    "card": "the card is late",
    "money": "money is broken please",
    "parcel": "where is my parcel",
    "ok": "thank you",
}
SHARED = ["training.lora={r: 4, target_modules: all-linear}", "training.gradient_checkpointing=true"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_bert):
    """21 rows in batches of 8: shares and forward passes differ between two processes. Gradients are clipped."""
    folder = tmp_path_factory.mktemp("fsdp")
    rows = [{"text": f"{list(WORDS.values())[i % 4]} " * (1 + i % 5), "label": list(WORDS)[i % 4]} for i in range(21)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "seven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:7]))
    still = {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    settings = {
        "task": "text-classification",
        "model": still,
        "data": {"train": str(folder / "rows.jsonl"), "validation": str(folder / "seven.jsonl")},
        "batch": {"size": 8, "micro": 3, "evaluation": 2},
        "training": {"max_steps": 8, "learning_rate": 3e-3, "precision": "fp32", "log_every": 1, "schedule": "constant"}
        | {"max_grad_norm": 0.5, "warmup": 0, "layer_decay": 0.9},
        "evaluation": {"every": 4, "metrics": ["accuracy", "log_loss"]},
        "checkpoint": {"every": 2, "keep": 4},
    }
    (folder / "x.yaml").write_text(json.dumps(settings))
    return folder / "x.yaml"


def train(recipe, out, *overrides, fsdp):
    done = launch(TRAIN, 2 if fsdp else 1, recipe, f"output.dir={out}", *overrides, fsdp=fsdp)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def history(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_alike(ours, theirs, tolerance=1e-4):
    """The same weights, losses and evaluations."""
    mine, others = (load_file(out / "model" / "model.safetensors") for out in (ours, theirs))
    assert mine.keys() == others.keys()
    for name in others:
        np.testing.assert_allclose(mine[name], others[name], atol=tolerance, err_msg=name)
    for one, other in zip(history(ours), history(theirs), strict=True):
        assert one["step"] == other["step"]
        if "loss" in other:
            assert one["loss"] == pytest.approx(other["loss"], abs=tolerance)
        else:
            assert one["validation"] == pytest.approx(other["validation"], abs=tolerance)


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train(recipe, out, fsdp=False)
    return out


@pytest.fixture(scope="module")
def together(recipe, tmp_path_factory):
    """The run of two processes that share the model, and what it printed."""
    out = tmp_path_factory.mktemp("together") / "run"
    return out, train(recipe, out, "training.compact_vocabulary=true", fsdp=True)


def test_shards_train_to_the_weights_of_one_process(alone, together, tiny_bert):
    out, printed = together
    assert_alike(out, alone)
    assert "the model in shards (FSDP)" in printed
    assert "compact vocabulary: off, the processes share the whole table" in printed
    trained, before = (load_file(f"{folder}/model.safetensors") for folder in (out / "model", tiny_bert))
    name = "encoder.layer.0.output.dense.weight"
    moved = np.abs(trained[f"bert.{name}"] - before[name]).max()
    assert moved > 50 * 1e-4  # else to be alike would say little


def test_its_checkpoints_are_shards_in_safetensors_and_verified(together):
    out, _ = together
    for path in list_checkpoints(out / "checkpoints"):
        names = sorted(file.name for file in path.iterdir())
        assert [name.partition("-model")[0] for name in names] == [
            "manifest.json", "shard-00001", "shard-00002", "state.json"
        ]  # fmt: skip
        assert verify(path) is None
        sizes = [file.stat().st_size for file in path.glob("shard-*")]
        assert max(sizes) < 1.2 * min(sizes)
        damaged = next(path.glob("shard-00002*"))
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
        assert "shard-00002" in verify(path)


@pytest.mark.parametrize("fsdp_first", [True, False])
def test_a_run_goes_on_under_another_number_of_processes(recipe, alone, tmp_path, fsdp_first):
    train(recipe, tmp_path / "run", "training.max_steps=4", fsdp=fsdp_first)
    assert "going on from step-000000004" in train(recipe, tmp_path / "run", fsdp=not fsdp_first)
    assert_alike(tmp_path / "run", alone)


def test_adapters_and_recomputed_activations_work_in_shards(recipe, tmp_path):
    pytest.importorskip("peft")
    train(recipe, tmp_path / "together", *SHARED, fsdp=True)
    train(recipe, tmp_path / "alone", *SHARED, fsdp=False)
    assert_alike(tmp_path / "together", tmp_path / "alone")
    assert (tmp_path / "together" / "adapter" / "adapter_model.safetensors").exists()


def test_bfloat16_keeps_float32_weights_and_comes_close(recipe, alone, tmp_path):
    train(recipe, tmp_path / "run", "training.precision=bf16", fsdp=True)
    checkpoint = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    for file in checkpoint.glob("shard-*"):
        assert all(tensor.dtype == np.float32 for tensor in load_file(file).values())
    assert_alike(tmp_path / "run", alone, tolerance=0.05)


def test_a_bad_number_stops_both_processes_and_names_the_rows(recipe, tmp_path):
    done = launch(FAULTY, 2, 1, 6, "nan", recipe, f"output.dir={tmp_path / 'run'}", fsdp=True)
    assert done.returncode != 0
    assert "gradient of step 6 is not a finite number; rows:" in done.stdout + done.stderr
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [name_of(2), name_of(4)]
    for path in list_checkpoints(tmp_path / "run" / "checkpoints"):
        for file in path.glob("shard-*"):
            assert all(np.isfinite(tensor).all() for tensor in load_file(file).values())
