"""BLEU, chrF and ROUGE are those of sacrebleu, rouge-score and `evaluate`'s modules, whatever the number of right texts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.evaluation.intervals import bootstrap_intervals
from nlp_pipeline.evaluation.metrics import compute_metrics
from nlp_pipeline.evaluation.metrics.outputs import Outputs
from nlp_pipeline.evaluation.metrics.specs import METRICS

NAMES = ["bleu", "chrf", "rouge"]
FOUND = ["The cat sat on the mat today.", "A dog barks", "", "it is by the river bank"]
RIGHT = [
    ["The cat sat on a mat today.", "Today the cat sat on the mat."],
    ["A dog barks loudly", "the dog barked", "A dog barks"],
    ["nothing"],
    ["it is near the river bank"],
]
WORDS = st.lists(st.sampled_from("a cat sat on the mat . , river It".split()), max_size=9).map(" ".join)


def streams(right):
    """Right texts as sacrebleu takes them: the first of each row, the second of each, …; None where there are fewer."""
    most = max(map(len, right))
    return [[texts[i] if i < len(texts) else None for texts in right] for i in range(most)]


def test_corpus_scores_are_those_of_sacrebleu_and_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    found = compute_metrics(NAMES, Outputs("text", FOUND, RIGHT))
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(FOUND, streams(RIGHT)).score)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(FOUND, streams(RIGHT)).score)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    each = [scorer.score_multi(right, text) for text, right in zip(FOUND, RIGHT, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert found[name] == pytest.approx(np.mean([scores[name].fmeasure for scores in each]))


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_bleu_and_chrf_equal_sacrebleu_for_any_texts(rows):
    from sacrebleu.metrics import BLEU, CHRF

    found, right = [row[0] for row in rows], [row[1] for row in rows]
    scores = compute_metrics(["bleu", "chrf"], Outputs("text", found, right))
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(found, streams(right)).score, nan_ok=True)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(found, streams(right)).score, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_counted_rows_give_the_score_of_the_rows_drawn(name):
    spec, outputs = METRICS[name], Outputs("text", FOUND, RIGHT)
    tally = spec.tally(outputs)
    times = np.array([2, 0, 1, 1])
    drawn = np.repeat(np.arange(4), times)
    again = spec.values(Outputs("text", [FOUND[i] for i in drawn], [RIGHT[i] for i in drawn]))
    counted = spec.resolve()(outputs, counted=tally.read(tally.table.T @ times.astype(np.float64)))
    assert counted == pytest.approx(again)


def test_nothing_to_score_is_nan_and_intervals_hold_the_score():
    assert all(math.isnan(value) for value in compute_metrics(NAMES, Outputs("text", [], [])).values())
    from nlp_pipeline.config.schema import IntervalsConfig

    outputs = Outputs("text", FOUND * 5, RIGHT * 5)
    scores, intervals = compute_metrics(NAMES, outputs), bootstrap_intervals(NAMES, outputs, IntervalsConfig())
    assert intervals.keys() == scores.keys()
    for key, (low, high) in intervals.items():
        assert low <= scores[key] <= high
        assert low < high
