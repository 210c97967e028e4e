"""A model that a host's own server asks, in the shapes of `nlp-pipeline serve`; it needs no web framework."""

import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .model import ServedModel
from .settings import Limits
from .shapes import shape_of
from .wording import validation_text


class Answering:
    """Answers requests one after the other, from any thread."""

    def __init__(self, folder: str | Path) -> None:
        self.model = ServedModel.load(folder, Path(folder).name).make_ready()
        self.shape = shape_of(self.model, Limits())
        self._turn = threading.Lock()

    def __call__(self, data: Any) -> Any:
        """The answer to a request's body.

        Raises:
            ValueError: what is wrong with it, without what was sent.
            DataError: a row that the task can't read.
        """
        try:
            body = self.shape.request.model_validate(data)
        except ValidationError as error:
            raise ValueError(validation_text(error.errors(include_input=False, include_url=False))) from None
        question, rows = self.shape.asked(body)
        with self._turn:
            found = self.model.answer(question, rows)
        return self.shape.answer(body, self.model, found)
