"""The settings of tasks that encoder-decoders learn."""

import re
from typing import Literal

from pydantic import Field as Setting

from ..data.languages import Languages
from ..data.targets import Copied
from .generated_text import GeneratedText


class SequenceToSequenceOptions(GeneratedText.Options):
    """Settings of encoder-decoders."""

    scores: Literal["likelihood", "generated"] = "generated"
    prefix: str = ""
    """What every source begins with, such as `summarize: ` for T5."""
    source_language: str | None = None
    """Code of the source's language, as the tokenizer of a model of many languages has it: `eng_Latn` for NLLB, `en_XX`
    for mBART, `en` for M2M100."""
    target_language: str | None = None
    """Code of the target's language; a Marian model of many languages takes it alone: `fra`."""
    max_target_length: int = Setting(128, ge=2)
    """Longest right text in tokens, its end included."""
    copy_pattern: str | None = None
    """A regular expression for parts of a source that are copied into the text as they are, such as names (its first
    group, or all of it): the model learns where they stand, not how they are spelt."""

    @property
    def languages(self) -> Languages:
        """From which language into which."""
        return Languages(self.source_language, self.target_language)

    @property
    def copied(self) -> Copied:
        """What of a source is copied."""
        return Copied(self.copy_pattern)

    def problems(self) -> list[str]:
        """A pattern that is none; a source's language without the target's."""
        problems = []
        try:
            re.compile(self.copy_pattern or "")
        except re.error as error:
            problems.append(f"options.copy_pattern: {self.copy_pattern!r} is no regular expression: {error}")
        if self.source_language is not None and self.target_language is None:
            problems.append(
                "options.source_language: found without target_language; set that too (a Marian model takes "
                "target_language alone)"
            )
        return problems
