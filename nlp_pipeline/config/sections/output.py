"""Where a run lies, and who is told of it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ...tracking.trackers import not_gone
from .base import Section


class RegistryConfig(Section):
    """Where the finished model is pushed. A push that fails costs nothing of the run."""

    target: str
    """`file:FOLDER/NAME`, `hub:USER/NAME`, `mlflow:NAME`, `wandb:PROJECT/NAME`, or a URL such as `s3://BUCKET/FOLDER/NAME`."""
    alias: str | None = None
    """A name that moves to the new version, e.g. `staging`."""


class OutputConfig(Section):
    """Where the run's folder lies."""

    dir: str | None = None
    """The run directory; by default `runs/<name>`."""


TrackerName = Annotated[Literal["comet", "mlflow", "tensorboard", "trackio", "wandb"], BeforeValidator(not_gone)]


class TrackingConfig(Section):
    """Experiment trackers that the run is sent to, while it works, by a process of their own. None unless named."""

    to: list[TrackerName] = Field(default_factory=list)
    """Their names; `tracking: [mlflow, tensorboard]` is short for this setting."""
    project: str = "nlp-pipeline"
    """Project (MLflow: experiment) that the run is filed under."""
    run_name: str | None = None
    """Name of the run there; by default the run directory's."""
    uri: dict[TrackerName, str] = Field(default_factory=dict)
    """Where a tracker is, e.g. `{mlflow: "http://host:5000"}`; a folder for tensorboard and trackio. A password
    goes in as `${NAME}`."""
    wait: float = Field(60, ge=0)
    """Seconds that the end of a run waits for the trackers; what they have missed can be sent later."""
    log_model: bool = False
    """Send the model folder too."""
    system: bool = True
    """Send memory and processor time of the training process."""
