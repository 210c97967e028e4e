"""What every section of a recipe is: immutable and strict."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from ...secrets import public


class Section(BaseModel):
    """A part of a recipe: immutable, unknown keys refused, field docstrings shown in the JSON Schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def __repr_args__(self) -> Any:
        """Without passwords: a traceback or a notebook may show the settings."""
        return [(name, public(value)) for name, value in super().__repr_args__()]
