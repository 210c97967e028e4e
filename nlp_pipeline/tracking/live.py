"""The followers of a run that is under way: started after its first logged line, ended with it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..run_directory import text_hash

if TYPE_CHECKING:
    from ..recipe import Recipe


@contextmanager
def tracked(recipe: "Recipe") -> Iterator[None]:
    """Within it, what the run logs is sent to the trackers that the config names; nothing where it names none."""
    tracking = recipe.config.tracking
    if not tracking.to or not recipe.is_main_process:
        yield
        return
    followers: dict[str, subprocess.Popen[bytes]] = {}

    def start() -> None:
        # Not before the first line: a run that goes on cuts its log back to the checkpoint before it writes one.
        try:
            _write_identity(recipe)
            for name in tracking.to:
                followers[name] = _start(recipe, name)
        except OSError as error:  # a full disk, no process to be had: never the run's concern
            later = "".join(f"\n  nlp-pipeline track {run.path} --to {name}" for name in tracking.to)
            print(f"tracking: could not be started ({error}); the run goes on. Send it later:{later}", file=sys.stderr)

    run = recipe.run_directory
    run.on_first_line = start
    ended = False
    try:
        yield
        ended = True
    finally:
        unstarted, run.on_first_line = run.on_first_line is not None, None
        if ended and unstarted:
            start()
        _end(recipe, followers)


def _write_identity(recipe: "Recipe") -> None:
    import json

    from ..stages.directory import identity

    text = json.dumps(identity(recipe), sort_keys=True, default=str)
    recipe.run_directory.write_json(recipe.run_directory.path / "tracking" / "run.json", {"identity": text_hash(text)})


def _start(recipe: "Recipe", name: str) -> "subprocess.Popen[bytes]":
    """A session of its own: Ctrl-C in the terminal is for the run, which then ends its followers in order."""
    import os

    where = str(recipe.run_directory.path)
    command = [sys.executable, "-m", "nlp_pipeline.tracking", where, "--to", name, "--follow"]
    command += ["--process", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


def _end(recipe: "Recipe", followers: "dict[str, subprocess.Popen[bytes]]") -> None:
    """Tell the followers that the run has ended, wait a while for all of them together, say what was missed."""
    deadline = time.monotonic() + recipe.config.tracking.wait
    for process in followers.values():
        if process.stdin:
            process.stdin.close()
    for name, process in followers.items():
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -1
        if code:
            print(
                f"tracking: {name} has not got everything; send it later: "
                f"nlp-pipeline track {recipe.run_directory.path} --to {name}",
                file=sys.stderr,
            )
