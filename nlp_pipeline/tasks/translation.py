"""Translation by an encoder-decoder of two languages or of many."""

from .sequence_to_sequence import SequenceToSequence


class Translation(SequenceToSequence):
    """Texts in another language."""

    task = "translation"
    summary = "a text in another language"
    source_names = ("text", "sentence1", "src")
    target_names = ("translation", "sentence2", "tgt")
    needs_languages = True
