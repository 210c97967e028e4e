"""Checkpoints: written aside, verified by SHA-256, safetensors and JSON only.

A checkpoint holds what trained (under LoRA only the adapter and the head), the optimizer's state by parameter name,
and the position in the data. There is no random state: dropout is drawn from (seed, step, process).
"""

import json
import os
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import START_ANEW, CheckpointError
from ..modeling.sharding import reshard
from ..run_directory import file_hash, write_text
from .checkpoint_folder import MANIFEST, WHOLE
from .shards import (
    Peers,
    by_parameter,
    in_shards,
    read_optimizer,
    read_shards,
    saved_shapes,
    write_shards,
)
from .tensor_file import write_tensors
from .train_state import STATE, TrainState, name_of, read_state

ALONE = Peers()


@dataclass(frozen=True)
class Snapshot:
    """Everything that a checkpoint holds, in memory."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    state: TrainState
    identity: Mapping[str, Any]


def take_snapshot(
    model: Any,
    optimizer: Any,
    state: TrainState,
    identity: Mapping[str, Any],
    copy: bool = False,
    into: Snapshot | None = None,
) -> Snapshot:
    """What is to be saved.

    Args:
        model: the bare model, outside any wrapper.
        identity: the settings that must not change between this run and one that goes on from here.
        copy: copy the tensors to memory of their own, so that training may go on while they are written.
        into: a copy that is no longer needed: its memory is used again, which spares the system finding some.
    """
    reshard(model)  # an evaluation may have come before
    tensors = trained_tensors(model), _optimizer_tensors(optimizer)
    if copy:
        there = (into.model, into.optimizer) if into else ({}, {})
        tensors = tuple(map(_copied, tensors, there))  # type: ignore[assignment]
    return Snapshot(*tensors, deepcopy(state), identity)


def _copied(tensors: Mapping[str, Any], into: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    copies = {}
    for name, tensor in tensors.items():
        kept = into.get(name)
        if in_shards({name: tensor}):
            copies[name] = tensor.to("cpu", copy=True)
        elif kept is not None and (kept.shape, kept.dtype) == (tensor.shape, tensor.dtype):
            copies[name] = kept.copy_(tensor)
        else:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            copies[name] = empty.copy_(tensor)
    return copies


def write_snapshot(folder: Path, snapshot: Snapshot, peers: Peers = ALONE) -> Path:
    """Write aside, sync, the manifest of SHA-256 sums last, then rename.

    Args:
        peers: the processes that hold the tensors in shards. Each writes its own part; the main one does the rest, and
            renames when all parts are on the disk.

    Raises:
        OSError: the disk is full, or the folder can't be written to; no checkpoint there is touched.
    """
    final = folder / name_of(snapshot.state.step)
    aside = folder / f".writing-{final.name}"
    peers.main(lambda: _make_aside(aside))
    if peers.group is None:
        tensors = zip(WHOLE, (snapshot.model, snapshot.optimizer), strict=True)
        parts = [{name: write_tensors(aside / name, held) for name, held in tensors}]
    else:
        parts = peers.all(lambda: write_shards(aside, {**snapshot.model, **snapshot.optimizer}, peers))
    hashes = {name: value for part in parts for name, value in part.items()}
    peers.main(lambda: _commit(aside, final, snapshot, hashes))
    return final


def _make_aside(aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)


def _commit(aside: Path, final: Path, snapshot: Snapshot, hashes: dict[str, str]) -> None:
    """Vouch for the files aside, of which the processes know the `hashes`, and put them in place."""
    content = {"state": asdict(snapshot.state), "identity": snapshot.identity}
    (aside / STATE).write_text(json.dumps(content, indent=1))
    for file in aside.iterdir():
        _sync(file)
    hashes = hashes | {STATE: file_hash(aside / STATE)}
    write_text(aside / MANIFEST, json.dumps({"sha256": hashes}, indent=1))
    _sync(aside)
    if final.exists():  # only ever a damaged one; gone before the new one takes its name
        shutil.rmtree(final)
    aside.rename(final)
    _sync(final.parent)


def load_checkpoint(path: Path, model: Any, optimizer: Any | None) -> TrainState:
    """Put a checkpoint's weights and optimizer state in place. It must have been verified.

    Raises:
        CheckpointError: it holds something else than this model and optimizer need.
    """
    state, _ = read_state(path)
    load_weights(path, model)
    if optimizer is not None:
        _load_optimizer(path, optimizer)
    return state


def load_weights(path: Path, model: Any) -> None:
    """Copy a checkpoint's weights into a model of the same shape.

    Raises:
        CheckpointError: they can't be read, or are not this model's.
    """
    import torch

    current = trained_tensors(model)
    whole = not _piecewise(path, current)
    saved = _read_tensors(path / WHOLE[0]) if whole else {}
    shapes = {n: tuple(t.shape) for n, t in saved.items()} if whole else saved_shapes(path, optimizer=False)
    if shapes != {name: tuple(tensor.shape) for name, tensor in current.items()}:
        raise CheckpointError(f"{path} holds other parameters than the model trains; {START_ANEW}")
    if not whole:
        read_shards(path, current)
        return
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])


def trained_tensors(model: Any) -> dict[str, Any]:
    """Trainable parameters by name, each shared one once, and buffers that training changes."""
    tensors = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = model.state_dict().keys()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: b for name, b in model.named_buffers() if name in state and name not in parameters}
    return tensors | buffers


def _optimizer_tensors(optimizer: Any) -> dict[str, Any]:
    return {
        f"{name}:{entry}": value.reshape(1) if value.dim() == 0 else value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for entry, value in optimizer.state[parameter].items()
    }


def _piecewise(path: Path, tensors: Mapping[str, Any]) -> bool:
    """Whether a checkpoint, or what it is to be read into, is in shards."""
    return not (path / WHOLE[0]).exists() or in_shards(tensors)


def _load_optimizer(path: Path, optimizer: Any) -> None:
    """Put the saved state of every parameter in place."""
    parameters = {
        n: p for group in optimizer.param_groups for n, p in zip(group["names"], group["params"], strict=True)
    }
    if _piecewise(path, parameters):
        saved = read_optimizer(path, parameters)
    else:
        saved = by_parameter(_read_tensors(path / WHOLE[1]))
    alike = len({frozenset(entries) for entries in saved.values()}) <= 1
    if not alike or not saved.keys() <= parameters.keys() or not all(_fits(saved[n], parameters[n]) for n in saved):
        raise CheckpointError(f"{path} holds the state of another optimizer; {START_ANEW}")
    for name, entries in saved.items():
        optimizer.state[parameters[name]] = {
            # The fused optimizer counts its steps on the device too.
            entry: (value.reshape(()) if entry == "step" else value).to(parameters[name].device)
            for entry, value in entries.items()
        }


def _fits(entries: Mapping[str, Any], parameter: Any) -> bool:
    """Whether each entry has a parameter's shape and type; the count of steps is one number."""
    return all(
        value.is_floating_point() and value.shape == (1,)
        if entry == "step"
        else (value.shape, value.dtype) == (parameter.shape, parameter.dtype)
        for entry, value in entries.items()
    )


def _read_tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} can't be read: {error}; {START_ANEW}") from None
    return tensors


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
