"""Entity-level metrics of tag sequences, by the rules of the seqeval package in its default mode.

Default mode is what Hugging Face's `seqeval` metric uses, so numbers compare with published ones: an I- tag
without its B- opens an entity, unlike the strict IOB2 mode. Entities are read with seqeval's own chunk rules
but not through its `get_entities`, which warns once a tag outside the IOB scheme; silencing warnings swaps
state of the whole process and is not thread safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from seqeval.metrics.sequence_labeling import end_of_chunk, start_of_chunk

from nlp_pipeline.evaluation.metrics.counts import Counts, Ints
from nlp_pipeline.evaluation.metrics.outputs import Outputs

Span = tuple[int, int]  # first and last token, counted over all sentences in a row
STATISTICS = ("precision", "recall", "f1")
SENTENCES = 10_000
"""Sentences whose entities are held at once."""


def seqeval(outputs: Outputs) -> dict[str, float]:
    """Precision, recall and F1 over all entities (micro) and of each type, and token accuracy.

    Keys: precision, recall, f1, accuracy, support, then "precision/<type>", "recall/<type>", "f1/<type>"
    and "support/<type>" for each type in references or predictions. Support counts reference entities.
    An entity counts as found when type, start and end all agree. precision, recall and f1 are nan when
    neither side has an entity, accuracy when there is no token.
    """
    by_type: dict[str, Ints] = {}
    for start in range(0, len(outputs), SENTENCES):  # no entity spans two sentences: counts of parts add up
        part = slice(start, start + SENTENCES)
        for name, found in _count(outputs.predictions[part], outputs.references[part]).items():
            by_type[name] = by_type.get(name, np.zeros(3, np.int64)) + found
    types = sorted(by_type)
    columns = np.array([by_type[name] for name in types], np.int64).reshape(-1, 3).T
    counts = Counts(*columns)
    result = {statistic: counts.average(statistic, "micro") for statistic in STATISTICS}
    result["accuracy"] = _token_accuracy(outputs)
    result["support"] = float(counts.expected.sum())
    for statistic in STATISTICS:
        values = counts.per_label(statistic).tolist()
        result.update({f"{statistic}/{name}": value for name, value in zip(types, values, strict=True)})
    supports = counts.expected.tolist()
    result.update({f"support/{name}": float(value) for name, value in zip(types, supports, strict=True)})
    return result


def entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """(type, first token, last token) of each entity in a row of tags, as seqeval reads them."""
    previous, previous_type, start = "O", "", 0
    for index, text in enumerate([*tags, "O"]):
        # "B-PER" is tag B of type PER; a bare "B" has seqeval's nameless type "_"
        tag, kind = text[:1] or "O", text[1:].split("-", maxsplit=1)[-1] or "_"
        if end_of_chunk(previous, tag, previous_type, kind):
            yield previous_type, start, index - 1
        if start_of_chunk(previous, tag, previous_type, kind):
            start = index
        previous, previous_type = tag, kind


def _count(predictions: Iterable[Sequence[str]], references: Iterable[Sequence[str]]) -> dict[str, Ints]:
    """For each type, int[3]: entities found, predicted, and in the references."""
    predicted, expected = _by_type(predictions), _by_type(references)
    nothing: set[Span] = set()
    counts = {}
    for name in expected.keys() | predicted.keys():
        ours, truth = predicted.get(name, nothing), expected.get(name, nothing)
        counts[name] = np.array([len(ours & truth), len(ours), len(truth)], np.int64)
    return counts


def _by_type(sentences: Iterable[Sequence[str]]) -> dict[str, set[Span]]:
    """Where the entities of each type stand. An O between sentences ends every entity, as in seqeval."""
    found: dict[str, set[Span]] = {}
    for name, first, last in entities(list(chain.from_iterable([*tags, "O"] for tags in sentences))):
        found.setdefault(name, set()).add((first, last))
    return found


def _token_accuracy(outputs: Outputs) -> float:
    """Share of tokens with the right tag, O included."""
    right = tokens = 0
    for predicted, expected in zip(outputs.predictions, outputs.references, strict=True):
        right += sum(p == e for p, e in zip(predicted, expected, strict=True))
        tokens += len(expected)
    return right / tokens if tokens else float("nan")
