"""Near duplicates by MinHash against every pair compared."""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_pipeline.audit.minhash import (
    SHINGLE,
    Shingles,
    band_rows,
    candidates,
    near_pairs,
    normalised,
    signatures,
)


def jaccard(left: str, right: str) -> float:
    """By the definition, with Python's sets."""
    sets = [{text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))} for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def near_texts(seed: int, count: int = 120) -> list[str]:
    """Random texts, each with a copy that differs in a few letters."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefgh "))
    texts = []
    for _ in range(count):
        text = rng.choice(letters, rng.integers(20, 90))
        copy = text.copy()
        copy[rng.integers(0, len(text), rng.integers(0, 6))] = "z"
        texts += [" ".join("".join(text).split()), " ".join("".join(copy).split())]
    return texts


@settings(max_examples=25)
@given(st.lists(st.text("abc ", min_size=1, max_size=14).map(str.strip).filter(bool), min_size=2, max_size=8))
def test_the_resemblance_is_the_jaccard_index_of_the_shingles(texts):
    pairs = np.array(list(combinations(range(len(texts)), 2)))
    ours = Shingles.of(texts).jaccard(pairs[:, 0], pairs[:, 1])
    assert ours == pytest.approx([jaccard(texts[i], texts[j]) for i, j in pairs])


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.8, 0.9]))
def test_texts_with_a_near_partner_are_found_and_no_others(seed, threshold):
    texts = near_texts(seed)
    truth = {pair for pair in combinations(range(len(texts)), 2) if jaccard(*(texts[i] for i in pair)) >= threshold}
    pairs, alike = near_pairs(texts, threshold)
    found = set(map(tuple, pairs.tolist()))
    assert found <= truth
    assert alike == pytest.approx([jaccard(texts[i], texts[j]) for i, j in pairs])
    partnered = {i for pair in truth for i in pair}
    assert len({i for pair in found for i in pair}) >= 0.97 * len(partnered)


def test_the_share_of_equal_hashes_estimates_the_resemblance():
    texts = near_texts(3)
    shingles = Shingles.of(texts)
    signature = signatures(shingles, hashes=512)
    left, right = np.arange(0, len(texts), 2), np.arange(1, len(texts), 2)
    error = (signature[left] == signature[right]).mean(1) - shingles.jaccard(left, right)
    assert abs(error.mean()) < 0.01
    assert error.std() < 0.035  # that of a mean of 512 draws is at most 0.022


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_leave_a_pair_at_the_threshold_99_chances_in_100(threshold):
    rows = band_rows(threshold)
    assert 1 - (1 - threshold**rows) ** (64 // rows) >= 0.99


def test_partners_are_found_in_every_group_and_in_a_bucket_of_thousands():
    texts = ["the same words again"] * 3000 + ["something else altogether here"]
    groups = np.arange(3001) % 3
    pairs, alike = near_pairs(texts, 0.8, groups)
    assert set(pairs.ravel().tolist()) == set(range(3000))
    assert (alike == 1).all()
    assert len(candidates(signatures(Shingles.of(texts)), 5)) < 10 * 3000


def test_texts_are_compared_without_case_and_punctuation():
    assert normalised(pa.chunked_array([["  It's LATE!!", "¿Qué?", "...", ""]])) == ["it s late", "qué", "", ""]
    pairs, _ = near_pairs(normalised(pa.chunked_array([["It's late!", "its late", "IT S LATE", "?!", "..."]])), 0.9)
    assert pairs.tolist() == [[0, 2]]
