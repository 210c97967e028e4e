"""Checkpoints in shards, written by a group of one process: what is written is read, and a fault is everybody's."""

import errno

import pytest
import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from nlp_pipeline.training.checkpoint import load_weights, take_snapshot
from nlp_pipeline.training.checkpoint import write_snapshot as write
from nlp_pipeline.training.checkpoint_folder import list_checkpoints, verify
from nlp_pipeline.training.optimization import set_learning_rate
from nlp_pipeline.training.shards import Peers, in_shards, read_shards, saved_shapes
from nlp_pipeline.training.train_state import TrainState
from nlp_pipeline.training.writer import CheckpointWriter


@pytest.fixture
def peers():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield Peers.meet(1.0)
    torch.distributed.destroy_process_group()


def model_in_shards():
    model = torch.nn.Linear(4, 3)
    mesh = init_device_mesh("cpu", (1,))
    for name in ("weight", "bias"):
        whole = getattr(model, name).detach()
        setattr(model, name, torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)])))
    groups = [{"params": list(model.parameters()), "names": ["weight", "bias"], "lr_scale": 1.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    set_learning_rate(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def test_shards_are_read_whole_and_in_shards(peers, tmp_path):
    model, optimizer = model_in_shards()
    snapshot = take_snapshot(model, optimizer, TrainState(step=3), {}, copy=True)
    assert in_shards(snapshot.model)
    path = write(tmp_path, snapshot, peers)
    assert verify(path) is None
    assert sorted(file.suffix for file in path.iterdir()) == [".json", ".json", ".safetensors"]
    shapes, states = saved_shapes(path, optimizer=False), saved_shapes(path, optimizer=True)
    assert shapes == {"weight": (3, 4), "bias": (3,)}
    assert states["weight:exp_avg"] == (3, 4)
    assert states["bias:step"] == (1,)

    whole = torch.nn.Linear(4, 3)
    load_weights(path, whole)
    other, _ = model_in_shards()
    load_weights(path, other)
    for name, parameter in model.named_parameters():
        assert torch.equal(whole.get_parameter(name), parameter.full_tensor())
        assert torch.equal(other.get_parameter(name).to_local(), parameter.to_local())
    step = {"bias:step": torch.zeros(1)}
    read_shards(path, step)
    assert float(step["bias:step"]) == 1


def test_a_full_disk_is_said_and_leaves_the_checkpoint_before(peers, tmp_path, monkeypatch):
    from nlp_pipeline.errors import StorageError

    model, optimizer = model_in_shards()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with CheckpointWriter(tmp_path, 2, background=True, peers=peers) as writer:
        writer.save(model, optimizer, TrainState(step=1), {})
        writer.wait()
        monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", full)
        writer.save(model, optimizer, TrainState(step=2), {})
        with pytest.raises(StorageError, match="No space left on device; step-000000001 is whole"):
            writer.wait()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000001"]
    assert not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize("error", [OSError("the disk"), ValueError("a mistake")])
def test_a_fault_of_one_process_is_raised_on_all(peers, error):
    def work():
        raise error

    with pytest.raises(OSError if isinstance(error, OSError) else RuntimeError, match=str(error)):
        peers.all(work)
    assert peers.all(lambda: 7) == [7]
    assert Peers().all(lambda: 7) == [7]
