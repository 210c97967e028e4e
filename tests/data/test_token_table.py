"""Examples of several sequences, rows of several examples: what comes out is what went in."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.data.batching import micro_batches
from nlp_pipeline.data.fields import Field, collate, draws
from nlp_pipeline.data.token_table import TokenTable, grouped, measured

sequence = st.lists(st.integers(0, 9), min_size=1, max_size=4)
examples = st.lists(st.lists(sequence, min_size=1, max_size=3), min_size=1, max_size=6)


def table_of(parts):
    return TokenTable(pa.concat_tables([measured({"input_ids": pa.array(p)}, len(p), 0) for p in parts]))


@given(examples, examples)
def test_sequences_of_examples_come_back_over_chunks(first, second):
    table, every = table_of([first, second]), first + second
    assert table.sizes.tolist() == [len(e) for e in every]
    assert table.lengths.tolist() == [sum(map(len, e)) for e in every]
    assert table.longest.tolist() == [max(map(len, e)) for e in every]
    wanted = np.arange(len(every))[::-1]
    found = [s.tolist() for s in table.sequences("input_ids", wanted)]
    assert found == [s for e in reversed(every) for s in e]
    batch = collate(table, [Field("input_ids", pad=-1)], wanted)
    assert [[i for i in row if i >= 0] for row in batch.inputs["input_ids"].tolist()] == found
    assert batch.sizes.tolist() == batch.targets["sizes"].tolist() == [len(e) for e in reversed(every)]


@given(examples, st.integers(1, 30), st.booleans())
def test_no_pass_splits_an_example_or_exceeds_its_tokens(rows, most, padded):
    table = table_of([rows])
    order = np.arange(len(rows))
    parts = micro_batches(order, table.lengths, None, most, padded, table.longest, table.sizes)
    assert np.concatenate(parts).tolist() == order.tolist()
    for part in parts:
        lengths = [len(s) for i in part for s in rows[i]]
        assert len(part) == 1 or (max(lengths) * len(lengths) if padded else sum(lengths)) <= most


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.data())
def test_rows_of_several_examples(sizes, data):
    position = np.repeat(np.arange(len(sizes)), sizes)
    cut = data.draw(st.integers(0, len(sizes)))
    parts = []
    for first, last in ((0, cut), (cut, len(sizes))):
        inside = (position >= first) & (position < last)
        if inside.any():
            columns = {
                "input_ids": pa.array([[int(i)] for i in np.flatnonzero(inside)]),
                "row": pa.array(position[inside] - first),
            }
            parts.append(measured(columns, last - first, first))
    table = TokenTable(pa.concat_tables(parts))
    assert table.rows_of(np.arange(len(table))).tolist() == position.tolist()
    rows = np.array(data.draw(st.permutations(range(len(sizes)))), np.int64)[: data.draw(st.integers(1, len(sizes)))]
    chosen = table.examples_of(rows)
    assert table.by_row(chosen.tolist(), rows) == [np.flatnonzero(position == row).tolist() for row in rows]


def test_rows_without_an_example_or_out_of_order_are_refused():
    ids = pa.array([[1], [2]])
    for position in ([0, 2], [1, 0]):
        with pytest.raises(ValueError, match="at least one example, in the order"):
            measured({"input_ids": ids, "row": pa.array(position)}, max(position) + 1, 0)
    with pytest.raises(ValueError, match="at least one sequence"):
        measured({"input_ids": pa.array([[[1]], []])}, 2, 0)


def test_columns_of_numbers_by_example_and_by_sequence():
    ids = {"input_ids": pa.array([[1, 2], [3]]), "truncated": pa.array([False, True])}
    table = TokenTable(measured(grouped(ids, [2]), 1, 0)).with_columns(
        {"soft": pa.array([[0.25, 0.75]]), "reference": pa.array([[-1.5, -2.5]])}
    )
    assert table.truncated_share == 1.0
    fields = [Field("input_ids"), Field("soft", "vector", "float32"), Field("reference", "sequence", "float32")]
    inputs = collate(table, fields, np.array([0])).inputs
    assert inputs["soft"].tolist() == [[0.25, 0.75]]
    assert inputs["reference"].tolist() == [-1.5, -2.5]


def test_draws_depend_on_seed_epoch_and_index_alone():
    first = draws(1, 2, 3).random(4).tolist()
    assert draws(1, 2, 3).random(4).tolist() == first
    assert all(draws(*other).random(4).tolist() != first for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)))
