"""Sampling, sharing and splitting: every row exactly once, whatever the numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.data.batching import PADDED_BACK, USUAL_LENGTH, Sampler, micro_batches, share, sorted_batches

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 9), st.sampled_from(["random", "length_grouped"]))
def test_an_epoch_holds_each_row_once_in_whole_batches(lengths, size, seed, sampling):
    sampler = Sampler(lengths, size, seed, sampling)
    batches = list(sampler.epoch(3))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == sampler.steps_per_epoch
    assert all(len(batch) == size for batch in batches[:-1])


@given(lengths, st.integers(1, 40), st.integers(0, 500))
def test_seeking_gives_the_uninterrupted_order(lengths, size, step):
    sampler = Sampler(lengths, size, 1)
    walked = sampler.batches_from(0)
    for _ in range(step):
        next(walked)
    (number, batch), (sought_number, sought) = next(walked), next(sampler.batches_from(step))
    assert number == sought_number == step
    assert batch.tolist() == sought.tolist()


@given(lengths, st.integers(1, 400), st.integers(0, 9), st.sampled_from(["random", "length_grouped"]))
def test_token_batches_hold_each_row_once_and_equal_shares(lengths, tokens, seed, sampling):
    sampler = Sampler(lengths, 1, seed, sampling, tokens)
    for epoch in (0, 3):
        batches = list(sampler.epoch(epoch))
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert len(batches) == sampler.steps_per_epoch
        assert all(len(batch) for batch in batches)
        share_of_each = lengths.sum() / len(batches)
        if share_of_each >= 2 * lengths.max():
            assert all(abs(lengths[batch].sum() - share_of_each) <= lengths.max() for batch in batches)


@given(lengths, st.integers(1, 40), st.none() | st.integers(1, 400), st.integers(0, 300))
def test_rows_before_a_step_are_counted(lengths, size, tokens, step):
    sampler = Sampler(lengths, size, 1, tokens=tokens)
    walked = sampler.batches_from(0)
    rows = sum(len(next(walked)[1]) for _ in range(step))
    if tokens is None or step % sampler.steps_per_epoch == 0:
        assert sampler.rows_before(step) == rows
    else:
        assert abs(sampler.rows_before(step) - rows) < len(lengths)


@given(st.integers(2, 12).map(lambda steps: 16 * steps), st.integers(0, 9))
def test_few_rows_of_like_length_meet_others_in_every_epoch(rows, seed):
    sampler = Sampler(np.arange(rows), 16, seed, "length_grouped")
    first, second = ({frozenset(batch.tolist()) for batch in sampler.epoch(epoch)} for epoch in (0, 1))
    assert len(first & second) <= len(first) // 2


@given(st.integers(8, 60), st.integers(0, 9))
def test_rows_of_a_batch_are_of_like_length(steps, seed):
    lengths = np.arange(16 * steps) % 97
    spread = {
        sampling: np.mean([np.ptp(lengths[batch]) for batch in Sampler(lengths, 16, seed, sampling).epoch(0)])
        for sampling in ("random", "length_grouped")
    }
    assert spread["length_grouped"] < 0.75 * spread["random"]


def test_epochs_and_seeds_differ():
    lengths = np.arange(1, 101)
    orders = {
        tuple(np.concatenate(list(Sampler(lengths, 8, seed).epoch(epoch)))) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


@given(st.lists(st.integers(0, 999), max_size=60).map(np.array), st.integers(1, 7))
def test_shares_are_even_and_complete(rows, processes):
    shares = [share(rows, rank, processes) for rank in range(processes)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(rows.tolist())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(lengths, st.one_of(st.none(), st.integers(1, 50)), st.integers(1, 500))
def test_micro_batches_keep_order_and_bounds(lengths, micro, tokens):
    rows = np.arange(len(lengths))
    parts = micro_batches(rows, lengths, micro, tokens)
    assert np.concatenate(parts).tolist() == rows.tolist()
    for part in parts:
        if micro is not None:
            assert len(part) <= micro
        else:
            assert len(part) == 1 or len(part) * lengths[part].max() <= tokens


def test_an_empty_share_still_gives_one_part():
    assert [len(p) for p in micro_batches(np.array([], int), np.array([3]), None, 10)] == [0]


@given(lengths, st.integers(1, 40), st.integers(1, 4))
def test_evaluation_scores_each_row_once(lengths, size, processes):
    batches = sorted_batches(lengths, size, processes)
    rows = [row for mine in batches for batch in mine for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert len(batches) == processes


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=60).map(np.array), st.integers(1, 64))
def test_an_evaluation_batch_of_long_rows_holds_fewer_of_them(lengths, size):
    for batch in sorted_batches(lengths, size)[0]:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= size * USUAL_LENGTH


@given(lengths, st.integers(1, 500))
def test_a_packed_pass_is_bounded_when_it_is_padded_again(lengths, tokens):
    parts = micro_batches(np.arange(len(lengths)), lengths, None, tokens, padded=False)
    assert np.concatenate(parts).tolist() == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or lengths[part].sum() <= tokens
        assert len(part) == 1 or len(part) * lengths[part].max() <= PADDED_BACK * tokens
