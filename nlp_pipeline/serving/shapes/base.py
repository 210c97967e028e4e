"""What a task's shape must supply."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ..model import Found, Question, Row, ServedModel
from ..settings import Limits

STRICT = ConfigDict(strict=True, extra="forbid")


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a valid integer")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _boolean(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("Input should be a valid boolean")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number; 5.0 is one in JSON Schema."""
Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)]
"""The same from 1 on. Bounds set on `Whole | None` itself would be missing in the schema."""
One = Annotated[Literal[1], BeforeValidator(_whole)]
"""1, and not `true`, which is its equal in Python."""
Off = Annotated[Literal[False], BeforeValidator(_boolean)]
"""`false`, and not 0."""


class Parameters(BaseModel):
    """How an answer is to be given."""

    model_config = STRICT


class Shape:
    """A request and its answer."""

    summary: str
    parameters: type[Parameters] = Parameters
    response: Any = Any

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.request: type[BaseModel] = create_model(
            f"{type(self).__name__}Request",
            __config__=STRICT,
            __doc__=self.summary,
            inputs=(self.inputs(), Field(examples=[self.example()])),
            parameters=self.parameters_field(),
            options=(dict[str, Any] | None, Field(None, description="Of the hosted service; has no effect here")),
        )

    def inputs(self) -> Any:
        """The type of `inputs`."""
        raise NotImplementedError

    def parameters_field(self) -> Any:
        """The type of `parameters`, and its default."""
        return self.parameters | None, None

    def example(self) -> Any:
        """Inputs to try."""
        return "Where is my parcel?"

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """The rows of a valid request.

        Raises:
            ValueError: it can't be answered; says why.
        """
        raise NotImplementedError

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """What is sent back.

        Args:
            model: the one that answered: a newer one than this shape was made for, perhaps.
            found: of each row that was asked about.
        """
        raise NotImplementedError

    @property
    def text(self) -> Any:
        """The type of a text."""
        return Annotated[str, Field(min_length=1, max_length=self.limits.characters)]

    def several(self, kind: Any) -> Any:
        """The type of a list."""
        return Annotated[list[kind], Field(min_length=1, max_length=self.limits.rows)]

    def given(self, body: Any) -> Any:
        """The parameters, those that are left out by their defaults."""
        return body.parameters or self.parameters()
