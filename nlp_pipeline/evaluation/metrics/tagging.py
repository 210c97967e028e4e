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

import numpy as np
from seqeval.metrics.sequence_labeling import end_of_chunk, start_of_chunk

from nlp_pipeline.evaluation.metrics.counts import Counts, Floats, Tally, make_table
from nlp_pipeline.evaluation.metrics.outputs import Outputs

STATISTICS = ("precision", "recall", "f1")


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
        whole = tally(outputs)
        counted = whole.read(np.asarray(whole.table.sum(axis=0)).reshape(-1))
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
    """Entities and tokens, sentence by sentence."""
    predicted, expected = _found(outputs.predictions), _found(outputs.references)
    types = sorted({name for name, _, _ in predicted | expected})
    place, width, sentences = {name: i for i, name in enumerate(types)}, len(types), len(outputs)
    lengths = np.array([len(tags) for tags in outputs.references], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1  # one more each, for the O between
    rows, columns = [], []
    for kind, spans in enumerate((predicted & expected, predicted, expected)):
        first = np.array([first for _, first, _ in spans], np.int64)
        rows.append(np.searchsorted(starts, first, side="right") - 1)
        columns.append(np.array([kind * width + place[name] for name, _, _ in spans], np.int64))
    right = [
        sum(p == e for p, e in zip(found, wanted, strict=True))
        for found, wanted in zip(outputs.predictions, outputs.references, strict=True)
    ]
    for number, amounts in enumerate((np.array(right, np.int64), lengths)):
        rows.append(np.repeat(np.arange(sentences), amounts))
        columns.append(np.full(int(amounts.sum()), 3 * width + number))

    def read(sums: Floats) -> EntityCounts:
        whole = sums.astype(np.int64)
        return EntityCounts(types, Counts(*whole[:-2].reshape(3, width)), int(whole[-2]), int(whole[-1]))

    return Tally(make_table(sentences, 3 * width + 2, rows, columns), np.ones(sentences, np.int64), read)


def _found(sentences: Iterable[Sequence[str]]) -> set[tuple[str, int, int]]:
    """The entities of all sentences in a row. An O between sentences ends every entity, as in seqeval."""
    return set(entities(list(chain.from_iterable([*tags, "O"] for tags in sentences))))
