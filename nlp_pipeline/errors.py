"""Errors that a user can act on: what was found, what was expected, how to fix it.

Every one of them may hold several problems, so that one run shows everything that is wrong.
The command line prints them without a traceback and exits with `exit_code`.
"""

from collections.abc import Callable, Iterable

from .secrets import redact

START_ANEW = "start anew beside the old run with --fresh (in Python: run(fresh=True))"
"""What always helps when a run can't go on."""


class NlpPipelineError(Exception):
    """Base of every error this package raises on purpose.

    `problems` is the list of separate findings; `str(error)` shows them as one message. Neither holds a password.
    """

    exit_code = 1
    heading = "Something went wrong"

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [_redacted(text) for text in ([problems] if isinstance(problems, str) else problems)]
        super().__init__(self._message())

    def _message(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        count = f"{self.heading}: {len(self.problems)} problems"
        return "\n".join([count, *(f"  - {problem}" for problem in self.problems)])


class ConfigError(NlpPipelineError):
    """The recipe, an override or an argument is wrong. Raised before any model is loaded."""

    exit_code = 2
    heading = "The recipe has problems"


class DataError(NlpPipelineError):
    """A data file or column is not what the task needs. Raised before any model is loaded."""

    exit_code = 2
    heading = "The data has problems"


class ModelError(NlpPipelineError):
    """A model or tokenizer can't be found, or isn't the one that was asked for."""

    exit_code = 2
    heading = "The model has problems"


class CheckpointError(NlpPipelineError):
    """A checkpoint can't be used: damaged, or written by another run."""

    exit_code = 2
    heading = "The checkpoint has problems"


class StorageError(NlpPipelineError):
    """A file of the run could not be written. What was complete before still is."""

    exit_code = 4
    heading = "The run could not be saved"


class StoppedError(NlpPipelineError):
    """A signal asked the run to stop; everything is saved. The exit code is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class NonFiniteError(NlpPipelineError):
    """The loss or the gradient is NaN or infinite; no optimizer step was made with it."""

    exit_code = 3
    heading = "Training stopped on a bad number"


class ReproductionError(NlpPipelineError):
    """A run can't be made again: its data, model or recipe isn't what it was. Raised before training."""

    exit_code = 2
    heading = "The run can't be reproduced"


class OutOfMemoryError(NlpPipelineError):
    """A forward and backward pass doesn't fit into memory, and can't be cut any smaller. Checkpoints are kept."""

    exit_code = 6
    heading = "Memory ran out"


class RegistryError(NlpPipelineError):
    """A model can't be pushed to a registry or read from it. Versions that are there stay as they are."""

    exit_code = 2
    heading = "The registry has problems"


class ExportError(NlpPipelineError):
    """An export doesn't predict what the model predicts. It is not left on the disk."""

    exit_code = 5
    heading = "The export is not what the model is"


class MissingExtraError(NlpPipelineError):
    """A feature needs a package that is an extra of this one."""

    exit_code = 2

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package `{package}`: pip install 'nlp-pipeline[{extra}]'")


def _redacted(problem: str) -> str:
    """The problem without passwords. One that carries its rows (`data.problems.RowProblem`) goes on doing so."""
    text = redact(problem)
    reworded: Callable[[str], str] = getattr(problem, "reworded", str)
    return problem if text == problem else reworded(text)
