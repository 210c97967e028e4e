"""Fill-mask: the tokens that best fill the masks of a text."""

import re
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from ...tasks.masked_language_modeling import SHOWN
from ..model import Found, Question, Row, ServedModel
from .base import Parameters, Shape, Whole


class FillParameters(Parameters):
    """How an answer is to be given."""

    top_k: Whole = Field(SHOWN, ge=1, le=SHOWN, description="So many tokens at most for a mask")


class Fill(BaseModel):
    """A token for a mask."""

    score: float
    token: int
    token_str: str
    sequence: str


class Fills(Shape):
    """A list of tokens; of a text with several masks a list for each; of several texts a list of these."""

    summary = "Tokens that fill the mask, best first"
    parameters = FillParameters
    response = list[Fill] | list[list[Fill]] | list[list[list[Fill]]]

    @property
    def mask(self) -> str:
        """What stands for a hidden token."""
        return str(self.model.recipe.encoder.tokenizer.mask_token)

    def inputs(self) -> Any:
        """A text with a mask, or several."""
        longest = self.limits.characters
        text = Annotated[str, Field(max_length=longest, pattern=re.escape(self.mask))]
        return text | self.several(text)

    def example(self) -> Any:
        """A text with a mask."""
        return f"Please send me my {self.mask}."

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A row a text."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        return Question("fills"), [{"text": text} for text in texts]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """In the nesting of transformers' pipeline."""
        answers = [self._fills(one, self.given(body).top_k) for one in found]
        return answers if isinstance(body.inputs, list) else answers[0]

    def _fills(self, found: Found, top: int) -> Any:
        """One list if there is one mask, else one for each."""
        ids = np.concatenate([value[2:] for value in found.value]).reshape(-1, 2, SHOWN)[:, 0].astype(int).tolist()
        parts = found.row["text"].split(self.mask)
        masks = []
        for place, (tokens, fills) in enumerate(zip(ids, found.record["fills"], strict=True)):
            before, after = self.mask.join(parts[: place + 1]), self.mask.join(parts[place + 1 :])
            masks.append(
                [
                    {
                        "score": fill["score"],
                        "token": token,
                        "token_str": fill["token"],
                        "sequence": before + fill["token"] + after,
                    }
                    for token, fill in zip(tokens[:top], fills, strict=False)
                ]
            )
        return masks[0] if len(masks) == 1 else masks
