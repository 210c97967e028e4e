"""Summaries by an encoder-decoder."""

from .sequence_to_sequence import SequenceToSequence


class Summarization(SequenceToSequence):
    """Summaries of texts."""

    task = "summarization"
    summary = "a summary of a text"
    source_names = ("text", "document", "article", "dialogue", "content")
    target_names = ("summary", "highlights", "abstract")

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """ROUGE of the generated summaries."""
        return ("rouge",) if self.kind == "text" else super().default_metrics
