"""The schema of a recipe file: its sections, every default of the project in them and nowhere else.

All sections are frozen and refuse unknown keys. Nothing here imports torch or transformers.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ..secrets import public
from .sections.base import Section
from .sections.data import AuditConfig, Check, DataConfig, TokenizationConfig
from .sections.evaluation import EvaluationConfig, GenerationSettings, IntervalsConfig
from .sections.model import ModelConfig, TeacherConfig
from .sections.output import OutputConfig, RegistryConfig, TrackingConfig
from .sections.training import BatchConfig, CheckpointConfig, LoraConfig, TrainingConfig

__all__ = [
    "LONGEST_NAME",
    "AuditConfig",
    "BatchConfig",
    "Check",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "GenerationSettings",
    "IntervalsConfig",
    "LoraConfig",
    "ModelConfig",
    "OutputConfig",
    "RegistryConfig",
    "Section",
    "TeacherConfig",
    "TokenizationConfig",
    "TrackingConfig",
    "TrainingConfig",
]

LONGEST_NAME = 200
"""Bytes; file systems end at 255, and `-2` and the like come after a name."""


def _expand_tracking(value: Any) -> Any:
    return {"to": [value]} if isinstance(value, str) else {"to": value} if isinstance(value, list | tuple) else value


def _expand_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _expand_target(value: Any) -> Any:
    return {"target": value} if isinstance(value, str) else value


class Config(Section):
    """A whole recipe."""

    task: str
    """The task, e.g. `text-classification` or `token-classification`."""
    recipe: str | None = None
    """A recipe class of your own: `path/to/file.py:ClassName`."""
    name: str | None = None
    """Name of the run; by default the recipe file's name."""
    model: Annotated[ModelConfig, BeforeValidator(_expand_name)]
    """A model name, or a section with details."""
    teacher: Annotated[TeacherConfig | None, BeforeValidator(_expand_name)] = None
    """A model to learn from: a folder, or a section with details."""
    data: DataConfig
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task itself; see the task's own list."""
    audit: AuditConfig = AuditConfig()
    tokenization: TokenizationConfig = TokenizationConfig()
    batch: BatchConfig = BatchConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    generation: GenerationSettings = GenerationSettings()
    checkpoint: CheckpointConfig = CheckpointConfig()
    output: OutputConfig = OutputConfig()
    tracking: Annotated[TrackingConfig, BeforeValidator(_expand_tracking)] = TrackingConfig()
    """Names of trackers, or a section with details."""
    registry: Annotated[RegistryConfig | None, BeforeValidator(_expand_target)] = None
    """A model registry to push to after the evaluation: an address alone, or a section with details."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or set("/\\\n\r\t") & set(value) or value.startswith(".")):
            raise ValueError("a run name is a plain folder name, without '/' and not starting with '.'")
        if value is not None and len(value.encode()) > LONGEST_NAME:
            raise ValueError(f"a run name of at most {LONGEST_NAME} bytes")
        return value

    def public(self) -> dict[str, Any]:
        """All settings as they may be written into a file: JSON's types, passwords hidden, `${NAME}` as it is."""
        settings: dict[str, Any] = public(self.model_dump(mode="json"))
        return settings
