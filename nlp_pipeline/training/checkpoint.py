"""Checkpoints: written aside, verified by SHA-256, safetensors and JSON only.

A checkpoint holds what trained (under LoRA only the adapter and the head), the optimizer's state by parameter name,
and the position in the data. There is no random state: dropout is drawn from (seed, step, process).
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import START_ANEW, CheckpointError, ConfigError
from ..modeling.sharding import reshard
from ..run_directory import file_hash, folder_hash, read_json, write_text
from .shards import (
    Peers,
    by_parameter,
    in_shards,
    read_optimizer,
    read_shards,
    saved_shapes,
    shards_missing,
    write_shards,
)
from .tensor_file import write_tensors

MANIFEST = "manifest.json"
STATE = "state.json"
WHOLE = ("model.safetensors", "optimizer.safetensors")
"""What a checkpoint that isn't in shards holds beside its state."""
ALONE = Peers()


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


def find_checkpoint(folder: Path, identity: Mapping[str, Any]) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and notes on any that were passed over.

    Raises:
        ConfigError: the checkpoint belongs to other settings; the differences are listed.
    """
    notes = []
    for path in reversed(list_checkpoints(folder)):
        problem = verify(path)
        if problem is not None:
            notes.append(f"{path.name} is damaged ({problem}); trying the one before")
            continue
        changed = _differences(read_state(path)[1], identity)
        if changed:
            raise ConfigError([f"{line}; go back to it, or {START_ANEW}" for line in changed])
        return path, notes
    return None, notes


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir()) if folder.is_dir() else []


def remove_after(folder: Path, step: int) -> None:
    """Delete checkpoints beyond the one that a run goes on from: they are damaged, and would pass for the newest.

    What a save left that was killed goes too.
    """
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in list_checkpoints(folder):
        if path.name > name_of(step):
            shutil.rmtree(path, ignore_errors=True)


def verify(path: Path) -> str | None:
    """None when every file has its recorded SHA-256; else what is wrong.

    What this process found whole is not read again as long as no file of it was written to since.
    """
    now = _writings(path)
    if now and _whole.get(path) == now:
        return None
    problem = _what_is_wrong(path)
    if problem is None and now == _writings(path):
        _whole[path] = now
    return problem


_whole: dict[Path, dict[str, tuple[int, int, int]]] = {}


def _writings(path: Path) -> dict[str, tuple[int, int, int]]:
    """For each file the inode, its size and when it was last changed in any way."""
    try:
        return {e.name: (s.st_ino, s.st_size, s.st_ctime_ns) for e in os.scandir(path) if (s := e.stat())}
    except OSError:
        return {}


def _what_is_wrong(path: Path) -> str | None:
    expected = read_json(path / MANIFEST).get("sha256")
    if not isinstance(expected, dict) or not _complete(expected):
        return "its manifest is missing or unreadable"
    try:
        found = folder_hash(path)
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    bad = [name for name in expected if found.get(name) != expected[name]]
    return f"{', '.join(bad)} changed since it was written" if bad else None


def _complete(names: Collection[str]) -> bool:
    """Whether these are all the files of a checkpoint, in either form."""
    return STATE in names and (set(WHOLE) <= set(names) or not shards_missing(names))


def remove_old(folder: Path, keep: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one."""
    protected = {name_of(best_step)} if best_step is not None else set()
    for path in list_checkpoints(folder)[:-keep]:
        if path.name not in protected:
            shutil.rmtree(path, ignore_errors=True)


def name_of(step: int) -> str:
    """A name that sorts by step."""
    return f"step-{step:09d}"


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


def _read_tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} can't be read: {error}; {START_ANEW}") from None
    return tensors


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now))
    keys = [*now, *(key for key in before if key not in now)]
    return [
        f"{key}: this run directory was trained with {before.get(key)!r}, now it is {now.get(key)!r}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
