"""Checkpoints: whole or not there, verified, the best one kept."""

import os

import pytest
import torch

from nlp_pipeline import ConfigError
from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.run_directory import folder_hash
from nlp_pipeline.training import checkpoint_folder
from nlp_pipeline.training.checkpoint import load_checkpoint, take_snapshot, write_snapshot
from nlp_pipeline.training.checkpoint_folder import find_checkpoint, list_checkpoints, remove_old, verify
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.train_state import TrainState, name_of


def save_checkpoint(folder, *what):
    return write_snapshot(folder, take_snapshot(*what))


class Tiny(torch.nn.Module):
    base_model_prefix = "base"

    def __init__(self):
        super().__init__()
        self.base = torch.nn.Linear(3, 3)
        self.head = torch.nn.Linear(3, 2)
        self.register_buffer("count", torch.zeros(()))


def trained(steps):
    torch.manual_seed(steps)
    model = Tiny()
    optimizer = make_optimizer(model, TrainingConfig())
    for _ in range(steps):
        model.head(model.base(torch.randn(4, 3))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.count += steps
    return model, optimizer


def test_everything_comes_back(tmp_path):
    model, optimizer = trained(3)
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=3, best_score=0.5, best_step=2), {"a": 1})
    other, other_optimizer = trained(1)
    state = load_checkpoint(path, other, other_optimizer)
    assert state == TrainState(step=3, best_score=0.5, best_step=2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    for (_, ours), (_, theirs) in zip(optimizer.state.items(), other_optimizer.state.items(), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path):
    model, optimizer = trained(1)
    first = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {})
    second = save_checkpoint(tmp_path, model, optimizer, TrainState(step=2), {})
    content = bytearray((second / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (second / "model.safetensors").write_bytes(content)
    path, notes = find_checkpoint(tmp_path, {})
    assert path == first
    assert notes == [
        f"{second.name} is damaged (model.safetensors changed since it was written); trying the one before"
    ]
    (first / "manifest.json").unlink()
    assert find_checkpoint(tmp_path, {})[0] is None


def test_other_settings_are_refused_with_the_difference(tmp_path):
    model, optimizer = trained(1)
    save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {"batch.size": 8, "seed": 1})
    with pytest.raises(ConfigError, match=r"batch\.size: this run directory was trained with 8, now it is 4"):
        find_checkpoint(tmp_path, {"batch.size": 4, "seed": 1})


def test_newest_and_best_survive(tmp_path):
    model, optimizer = trained(1)
    for step in range(1, 6):
        save_checkpoint(tmp_path, model, optimizer, TrainState(step=step), {})
    remove_old(tmp_path, keep=2, best_step=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == [name_of(1), name_of(4), name_of(5)]


def test_what_was_found_whole_is_read_again_only_after_a_change(tmp_path, monkeypatch):
    model, optimizer = trained(1)
    path = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {})
    read = []
    monkeypatch.setattr(checkpoint_folder, "folder_hash", lambda folder: read.append(folder) or folder_hash(folder))
    assert [verify(path), verify(path)] == [None, None]
    assert len(read) == 1
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "model.safetensors changed" in verify(path)
