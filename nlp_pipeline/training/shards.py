"""Checkpoints that several processes write together, each its own shards, in a form of torch's distributed checkpoint.

Files are safetensors with each shard's place in their header (HuggingFaceStorageWriter): nothing in them is pickled,
unlike in torch's own `.metadata`. Any number of processes can read them, also one alone.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Peers:
    """The processes that write a checkpoint: all or none of them go on from each of its stages.

    Args:
        group: a process group for this alone, since the writing may go on in a thread; None for this process alone.
    """

    group: Any = None

    @classmethod
    def meet(cls, minutes: float | None) -> "Peers":
        """All processes; each has to call this. They wait `minutes` for one another, or torch's default."""
        import torch

        timeout = None if minutes is None else timedelta(minutes=minutes)
        return cls(torch.distributed.new_group(backend="gloo", timeout=timeout))

    @property
    def is_main(self) -> bool:
        """Whether this process writes what there is one of."""
        return self.group is None or self.group.rank() == 0

    def all(self, work: Callable[[], Result]) -> list[Result]:
        """What every process's `work` returned, once all have done it.

        Raises:
            OSError: a file could not be written, on this process or another.
            RuntimeError: another error there.
        """
        if self.group is None:
            return [work()]
        import torch

        mine: tuple[Any, tuple[bool, str] | None]
        try:
            mine = work(), None
        except Exception as error:
            mine = None, (isinstance(error, OSError), str(getattr(error, "strerror", None) or error))
        answers: list[Any] = [None] * self.group.size()
        torch.distributed.all_gather_object(answers, mine, group=self.group)
        for _, problem in answers:
            if problem is not None:
                of_the_disk, text = problem
                raise OSError(text) if of_the_disk else RuntimeError(text)
        return [result for result, _ in answers]

    def main(self, work: Callable[[], Any]) -> None:
        """`work` in the main process; the others wait, and fail with it."""
        self.all(lambda: work() if self.is_main else None)


def write_shards(folder: Path, tensors: Mapping[str, Any], peers: Peers) -> dict[str, str]:
    """Write this process's part of the tensors, and sync it. Every process calls this at once.

    Returns:
        The SHA-256 of the file that this process wrote, by name.

    Raises:
        OSError: a process could not write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    from ..modeling.loading import file_hash

    try:
        save(
            dict(tensors),
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            process_group=peers.group,
        )
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise cause if isinstance(cause, OSError) else OSError(str(cause)) from error
    mine = folder.glob(f"shard-{peers.group.rank() + 1:05d}-*.safetensors")
    return {file.name: file_hash(file) for file in mine}


def in_shards(tensors: Mapping[str, Any]) -> bool:
    """Whether any of these tensors is spread over processes."""
    import torch

    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The whole shape of every tensor of a checkpoint, in either form, by name."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: tuple(entry.size) for name, entry in entries.items()}  # type: ignore[union-attr]


def read_shards(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Fill tensors, whole or in shards, from a checkpoint in either form; this process alone reads what it needs."""
    import torch
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what was asked for
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def read_optimizer(folder: Path, optimizer: Any) -> None:
    """Put the saved state of every parameter in place, as `read_shards` does."""
    import torch

    shapes = saved_shapes(folder)
    wanted: dict[str, Any] = {}
    states: list[tuple[Any, dict[str, Any]]] = []
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            entries = [key.rpartition(":")[2] for key in shapes if key.rpartition(":")[0] == name]
            state = {e: torch.zeros(1) if e == "step" else torch.zeros_like(parameter) for e in entries}
            wanted |= {f"{name}:{entry}": value for entry, value in state.items()}
            states.append((parameter, state))
    read_shards(folder, wanted)
    for parameter, state in states:
        if state:
            optimizer.state[parameter] = state | {"step": state["step"].reshape(()).to(parameter.device)}
