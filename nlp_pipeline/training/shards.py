"""Checkpoints that several processes write together, each its own shards, in a form of torch's distributed checkpoint.

Files are safetensors with each shard's place in their header (HuggingFaceStorageWriter): nothing in them is pickled,
unlike in torch's own `.metadata`. Any number of processes can read them, also one alone.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from ..errors import START_ANEW, CheckpointError

SHARD = re.compile(r"shard-(\d+)-model-\d+-of-\d+\.safetensors")
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
        RuntimeError: another error there.
    """
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    from ..run_directory import file_hash

    try:
        save(
            dict(tensors),
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            process_group=peers.group,
        )
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        if isinstance(cause, OSError):
            raise cause from error
        # safetensors has an error type of its own for a full disk
        raise (OSError if isinstance(cause, SafetensorError) else RuntimeError)(str(cause)) from error
    mine = folder.glob(f"shard-{peers.group.rank() + 1:05d}-*.safetensors")
    return {file.name: file_hash(file) for file in mine}


def in_shards(tensors: Mapping[str, Any]) -> bool:
    """Whether any of these tensors is spread over processes."""
    import torch

    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def shards_missing(names: Collection[str]) -> bool:
    """Whether there are no shards among these file names, or one between them is not there."""
    found = {int(match[1]) for name in names if (match := SHARD.fullmatch(name))}
    return not found or found != set(range(1, max(found) + 1))


def saved_shapes(folder: Path, optimizer: bool) -> dict[str, tuple[int, ...]]:
    """The whole shape of every tensor of a checkpoint, in either form, by name.

    Args:
        optimizer: of the optimizer's state (`name:entry`), else of the model.

    Raises:
        CheckpointError: it can't be read.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    with _reading(folder):
        entries = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        return {name: tuple(e.size) for name, e in entries.items() if (":" in name) == optimizer}  # type: ignore[union-attr]


def read_shards(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Fill tensors, whole or in shards, from a checkpoint in either form; this process alone reads what it needs.

    Raises:
        CheckpointError: it can't be read.
    """
    import torch
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with warnings.catch_warnings(), torch.no_grad(), _reading(folder):
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what was asked for
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (CheckpointException, SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder} can't be read: {text}; {START_ANEW}") from None


def by_parameter(saved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Optimizer state by parameter and entry, from state by `name:entry`."""
    states: dict[str, dict[str, Any]] = {}
    for key, value in saved.items():
        name, _, entry = key.rpartition(":")
        states.setdefault(name, {})[entry] = value
    return states


def read_optimizer(folder: Path, parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The saved state of parameters, in shards where they are.

    Raises:
        CheckpointError: it can't be read, or is of other parameters.
    """
    import torch

    wanted: dict[str, Any] = {}
    for key, shape in saved_shapes(folder, optimizer=True).items():
        name, _, entry = key.rpartition(":")
        expected = (1,) if entry == "step" else tuple(parameters[name].shape) if name in parameters else None
        if shape != expected:
            raise CheckpointError(f"{folder} holds the state of another optimizer ({key}); {START_ANEW}")
        wanted[key] = torch.zeros(1) if entry == "step" else torch.zeros_like(parameters[name])
    read_shards(folder, wanted)
    return by_parameter(wanted)
