"""Entity-level metrics of tag sequences, by the rules of the seqeval package in its default mode.

Default mode is what Hugging Face's `seqeval` metric uses, so numbers compare with published ones: an I- tag
without its B- opens an entity, unlike the strict IOB2 mode. Entities are read with seqeval's own chunk rules
but not through its `get_entities`, which warns once a tag outside the IOB scheme; silencing warnings swaps
state of the whole process and is not thread safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq

import numpy as np
from scipy import sparse
from seqeval.metrics.sequence_labeling import end_of_chunk, start_of_chunk

from nlp_pipeline.evaluation.metrics.counts import Counts, Ints, Tally, assign_groups
from nlp_pipeline.evaluation.metrics.outputs import Outputs

Span = tuple[int, int]  # first and last token, counted over all sentences in a row
STATISTICS = ("precision", "recall", "f1")
SENTENCES = 10_000
"""Sentences whose entities are held at once."""


@dataclass(frozen=True)
class EntityCounts:
    """Entities by type, and tokens: how many there are and how many have the right tag."""

    types: list[str]
    counts: Counts
    right: int
    tokens: int


def seqeval(outputs: Outputs, *, counted: EntityCounts | None = None) -> dict[str, float]:
    """Precision, recall and F1 over all entities (micro) and of each type, and token accuracy.

    Keys: precision, recall, f1, accuracy, support, then "precision/<type>", "recall/<type>", "f1/<type>"
    and "support/<type>" for each type in references or predictions. Support counts reference entities.
    An entity counts as found when type, start and end all agree. precision, recall and f1 are nan when
    neither side has an entity, accuracy when there is no token.
    """
    if counted is None:
        types, table = _count(outputs, np.zeros(len(outputs), np.int64))
        counted = _read(types, table.sum(axis=0))
    types, counts = counted.types, counted.counts
    result = {statistic: counts.average(statistic, "micro") for statistic in STATISTICS}
    result["accuracy"] = counted.right / counted.tokens if counted.tokens else float("nan")
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


def tally(outputs: Outputs) -> Tally:
    """Entities and tokens of each sentence, or of random groups of sentences where these are too many."""
    types, table = _count(outputs, assign_groups(len(outputs)))
    times = np.ones(len(table), np.int64)
    return Tally(sparse.csr_array(table.astype(np.float64)), times, lambda sums: _read(types, sums.astype(np.int64)))


def _read(types: list[str], sums: Ints) -> EntityCounts:
    return EntityCounts(types, Counts(*sums[:-2].reshape(3, len(types))), int(sums[-2]), int(sums[-1]))


def _count(outputs: Outputs, group_of: Ints) -> tuple[list[str], Ints]:
    """The types in order, and int64[groups, 3 types + 2]: entities found, predicted and in the references, then tokens.

    Args:
        group_of: int[sentences], the group that a sentence is counted for. Tokens are those that are right, and all.
    """
    groups = int(group_of.max(initial=-1)) + 1
    by_type: dict[str, Ints] = {}
    tokens = np.zeros((2, groups), np.int64)
    for start in range(0, len(outputs), SENTENCES):  # no entity spans two sentences: counts of parts add up
        part = slice(start, start + SENTENCES)
        predictions, references, where = outputs.predictions[part], outputs.references[part], group_of[part]
        lengths = np.array([len(tags) for tags in references], np.int64)
        right = [sum(map(eq, *pair)) for pair in zip(predictions, references, strict=True)]
        for row, amounts in zip(tokens, (np.array(right, np.int64), lengths), strict=True):
            np.add.at(row, where, amounts)
        ends = np.cumsum(lengths + 1)  # one more each, for the O between
        predicted, expected = _by_type(predictions), _by_type(references)
        for name in predicted.keys() | expected.keys():
            ours, truth = predicted.get(name, set()), expected.get(name, set())
            counts = by_type.setdefault(name, np.zeros((3, groups), np.int64))
            for row, spans in zip(counts, (ours & truth, ours, truth), strict=True):
                first = np.array([first for first, _ in spans], np.int64)
                row += np.bincount(where[np.searchsorted(ends, first, side="right")], minlength=groups)
    types = sorted(by_type)
    table = [by_type[name][kind] for kind in range(3) for name in types]
    return types, np.array([*table, *tokens]).T


def _by_type(sentences: Iterable[Sequence[str]]) -> dict[str, set[Span]]:
    """Where the entities of each type stand. An O between sentences ends every entity, as in seqeval."""
    found: dict[str, set[Span]] = {}
    for name, first, last in entities(list(chain.from_iterable([*tags, "O"] for tags in sentences))):
        found.setdefault(name, set()).add((first, last))
    return found
