"""Saving checkpoints, at once or in a thread of their own, and what happens when the disk won't take them."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import StorageError
from .checkpoint import ALONE, Snapshot, take_snapshot, write_snapshot
from .checkpoint_folder import list_checkpoints, remove_old, verify
from .shards import Peers
from .train_state import TrainState, name_of


class CheckpointWriter:
    """Writes a run's checkpoints, one at a time, and deletes the old ones.

    In the background a save costs training a copy in memory; the next save, or the end, waits for it. Used as a
    context manager, so that a run which ends, however it does, leaves its last save whole. With `peers` each of them
    has a writer and saves at the same steps.

    Raises:
        StorageError: from `save` or `wait`: a checkpoint could not be written; what was there before still is.
    """

    def __init__(self, folder: Path, keep: int, background: bool, peers: Peers = ALONE) -> None:
        self.folder, self.keep, self.background, self.peers = folder, keep, background, peers
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._copy: Snapshot | None = None

    def save(self, model: Any, optimizer: Any, state: TrainState, identity: Mapping[str, Any]) -> None:
        """Save what is now."""
        self.wait()
        snapshot = take_snapshot(model, optimizer, state, identity, self.background, self._copy)
        if not self.background:
            self._write(snapshot)
            self.wait()
            return
        self._copy = snapshot
        # Not a daemon: an interpreter that leaves waits for it.
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last save is on the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.wait()
            return
        try:
            self.wait()
        except Exception as another:  # the first one is what ends the run; this one is said with it
            error.add_note(f"besides: {another}")

    def _write(self, snapshot: Snapshot) -> None:
        try:
            write_snapshot(self.folder, snapshot, self.peers)
            if self.peers.is_main:
                remove_old(self.folder, self.keep, snapshot.state.best_step)
        except OSError as error:
            if self.peers.is_main:
                shutil.rmtree(self.folder / f".writing-{name_of(snapshot.state.step)}", ignore_errors=True)
            whole = [path.name for path in list_checkpoints(self.folder) if verify(path) is None]
            kept = f"{whole[-1]} is whole" if whole else "there is no earlier one"
            self._error = StorageError(
                f"the checkpoint of step {snapshot.state.step:,} could not be written to {self.folder}: "
                f"{error.strerror or error}; {kept}. Make room or mend the folder, then run the same command again"
            )
        except Exception as error:  # nobody would see it otherwise: this may be a thread
            self._error = error
