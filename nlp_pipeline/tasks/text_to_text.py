"""Any text from any other by an encoder-decoder."""

from .sequence_to_sequence import SequenceToSequence


class TextToText(SequenceToSequence):
    """Any text from any other: data to text, corrections, paraphrases, answers."""

    task = "text2text-generation"
    summary = "a text that is written from another"
