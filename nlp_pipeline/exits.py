"""How a command ends that failed: what the user is told, the command to go on, and the exit code."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .devices import launched_processes, launched_rank
from .errors import NlpPipelineError, StorageError
from .secrets import redact

OTHERS_WAIT_SECONDS = 5.0
"""How long the other processes leave it to the main one to report an error and end the run."""
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
"""What a disk says when it can take no more, or nothing from us."""
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "remote worker", "NCCL")
"""What gloo and NCCL say, among other things, when another process has ended or does not answer."""


@contextmanager
def resume_hint() -> Iterator[None]:
    """After a crash or an interrupt: what was kept, and the command to go on."""
    try:
        yield
    except NlpPipelineError as error:
        if error.exit_code != 2:
            show_error(error)
            hint()
            raise SystemExit(error.exit_code) from None
        raise
    except KeyboardInterrupt:
        print("\ninterrupted; everything up to the last checkpoint is kept", file=sys.stderr)
        hint()
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in STORAGE:
            crashed()
        show_error(StorageError(f"{error.filename or 'the run directory'} can't be written: {error.strerror}"))
        hint()
        raise SystemExit(StorageError.exit_code) from None
    except Exception:
        crashed()


def crashed() -> NoReturn:
    """What is printed for an error that nobody foresaw, and the end."""
    show_traceback()
    print("\nThe run crashed; its checkpoints and metric log are kept.", file=sys.stderr)
    hint()
    raise SystemExit(1) from None


def show_traceback() -> None:
    """The traceback of the error at hand, passwords hidden; of several processes it says whose it is."""
    import traceback

    text = redact(traceback.format_exc())
    if launched_processes() > 1:
        text = f"In process {launched_rank()}:\n{text}"
        # Not its own fault: the process at fault shows its traceback, unless it was killed.
        if any(words in text for words in PEER_LOST):
            text = f"process {launched_rank()}: another process has ended or does not answer; its error stands above\n"
    print(text, end="", file=sys.stderr)


def hint() -> None:
    """The command that goes on."""
    import shlex

    launcher = f"accelerate launch … {sys.argv[0]}" if launched_processes() > 1 else "nlp-pipeline"
    print(f"Go on with the same command: {launcher} {redact(shlex.join(sys.argv[1:]))}", file=sys.stderr)


def show_error(error: NlpPipelineError) -> None:
    """The message without a traceback, once.

    Most errors meet every process alike: the main one speaks for all. The launcher ends all processes as soon as one
    does, so the others wait; whoever is still there after that has an error of its own.
    """
    rank = launched_rank()
    if rank:
        time.sleep(OTHERS_WAIT_SECONDS)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    print(f"error: {text}" if rank == 0 else f"error in process {rank}: {text}", file=sys.stderr)
