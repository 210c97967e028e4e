"""Question answering fulfils the contract; windows, spans, thresholds and SQuAD's shapes."""

import json

import numpy as np
import pytest
from contract import RecipeContract
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import QuestionAnswering, Recipe
from nlp_pipeline.evaluation.metrics import Outputs, compute_metrics
from nlp_pipeline.evaluation.spans import best_spans, best_threshold, merged

PLACES = ["london", "paris", "new york"]
CONTEXTS = [
    f"{'the parcel is late and ' * (i % 5)}the card is in {PLACES[i % 3]} on the first of the month. "
    for i in range(14)
]
ROWS = [
    {
        "id": f"r{i}",
        "question": "where is the card?",
        "context": text,
        "answers": {"text": [PLACES[i % 3]], "answer_start": [text.index(PLACES[i % 3])]},
    }
    for i, text in enumerate(CONTEXTS)
]


class TestQuestionAnswering(RecipeContract):
    recipe = QuestionAnswering
    # What is the same for every token a softmax over the tokens takes out.
    undetermined = ("qa_outputs.bias", "bert.encoder.layer.1.output.LayerNorm.bias")
    settings = {"tokenization": {"max_length": 32}, "options": {"stride": 8, "max_answer_tokens": 6}}
    rows = ROWS
    plain = [(row["question"], row["context"]) for row in ROWS[:6]]
    wrong = [
        ({"question": "who", "context": "a card", "answers": {"text": ["b"], "answer_start": [0]}}, "does not stand"),
        (
            {"question": "who", "context": "a card", "answers": {"text": ["card"], "answer_start": [0]}},
            "does not begin",
        ),
        ({"question": "who", "context": "a card", "answers": 7}, "answers"),
    ]

    def alone(self, folder):
        """The best span over the windows that transformers makes, looked for in all of them."""
        import torch
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForQuestionAnswering.from_pretrained(folder)
        found = []
        for question, context in self.plain:
            windows = tokenizer(
                question, context, truncation="only_second", max_length=32, stride=8, padding=True,
                return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
            )  # fmt: skip
            offsets = windows.pop("offset_mapping").tolist()
            windows.pop("overflow_to_sample_mapping")
            windows["token_type_ids"] = torch.tensor(
                [[place or 0 for place in windows.sequence_ids(w)] for w in range(len(offsets))]
            )
            last = windows["attention_mask"].sum(1) - 1
            windows["token_type_ids"][torch.arange(len(last)), last] = 1
            with torch.no_grad():
                outputs = model.eval()(**windows)
            best = max(
                (float(outputs.start_logits[w, a] + outputs.end_logits[w, b]), w, a, b)
                for w in range(len(offsets))
                for a in range(len(offsets[w]))
                for b in range(a, min(a + 6, len(offsets[w])))
                if windows.sequence_ids(w)[a] == windows.sequence_ids(w)[b] == 1
            )
            found.append(context[offsets[best[1]][best[2]][0] : offsets[best[1]][best[3]][1]])
        return found

    def test_windows_are_those_of_transformers_and_their_labels_spell_the_answer(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.tokenize()
        table = recipe.tables["train"]
        assert len(table) > len(ROWS)
        theirs = recipe.encoder.tokenizer(
            [row["question"] for row in ROWS], CONTEXTS, truncation="only_second", max_length=32, stride=8,
            return_overflowing_tokens=True,
        )  # fmt: skip
        every = np.arange(len(table))
        assert [ids.tolist() for ids in table.sequences("input_ids", every)] == theirs["input_ids"]
        assert table.rows_of(every).tolist() == theirs["overflow_to_sample_mapping"]
        spelt = set()
        for example, (first, last) in enumerate(table.sequences("labels", every)):
            row = int(table.rows_of(np.array([example]))[0])
            if first:
                starts, ends = (table.sequences(name, np.array([example]))[0] for name in ("starts", "ends"))
                assert CONTEXTS[row][starts[first] : ends[last]] == PLACES[row % 3]
                spelt.add(row)
        assert spelt == set(range(len(ROWS)))

    def test_scores_in_windows_of_rows_are_those_of_all_rows(self, tiny_bert, tmp_path):
        results = [
            self.make(tiny_bert, tmp_path / str(size), batch={"window": size, "evaluation": 3}).run(progress=False)
            for size in (3, 100)
        ]
        assert results[0]["scores"] == pytest.approx(results[1]["scores"], abs=1e-5)
        lines = (tmp_path / "3" / "predictions" / "test.jsonl").read_text().splitlines()
        assert [json.loads(line)["row_id"] for line in lines] == [row["id"] for row in ROWS]


class TestWithoutAnswer(RecipeContract):
    recipe = QuestionAnswering
    undetermined = TestQuestionAnswering.undetermined
    settings = TestQuestionAnswering.settings
    rows = [
        row if i % 3 else {**row, "question": "who?", "answers": {"text": [], "answer_start": []}}
        for i, row in enumerate(ROWS)
    ]
    plain = TestQuestionAnswering.plain
    wrong = TestQuestionAnswering.wrong[:1]
    alone = None
    test_transformers_alone_agrees_with_predict = None  # it knows no threshold
    # The threshold is one of these rows' own scores: rounding decides about that row.
    test_an_exported_graph_predicts_the_same = None

    def test_the_threshold_is_tuned_saved_and_used(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        scores = recipe.run(progress=False)["scores"]
        assert {"f1/answerable", "f1/unanswerable"} <= scores.keys()
        again = Recipe.from_pretrained(tmp_path / "run")
        assert again.tuned == recipe.tuned
        assert recipe.tuned["null_threshold"] != 0.0
        for threshold, empty in ((-1e9, True), (1e9, False)):
            again.tuned = {"null_threshold": threshold}
            assert all((record["prediction"] == "") == empty for record in again.predict(self.plain))


def test_squads_own_nested_files_and_flat_rows_read_alike(tiny_bert, tmp_path):
    nested = [
        {"title": "t", "paragraphs": [{"context": row["context"], "qas": [
            {"id": row["id"], "question": row["question"], "is_impossible": i % 2 == 1,
             "answers": [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}]}
        ]}]}
        for i, row in enumerate(ROWS)
    ]  # fmt: skip
    (tmp_path / "squad.json").write_text(json.dumps({"version": "v2.0", "data": nested}))
    flat = [
        {**row, "answers": row["answers"] if i % 2 == 0 else {"text": [], "answer_start": []}}
        for i, row in enumerate(ROWS)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat))
    texts = [{**row, "answers": json.dumps(row["answers"])} for row in flat]
    loaded = []
    for source in (str(tmp_path / "squad.json"), str(tmp_path / "rows.jsonl"), flat, texts):
        recipe = QuestionAnswering(model=tiny_bert, train=source)
        recipe.load()
        assert recipe.tuned == {"null_threshold": 0.0}
        loaded.append(recipe.splits.train.to_list())
    assert loaded[0] == loaded[1] == loaded[2] == loaded[3]
    assert loaded[0][0]["answers"][0]["text"] == "london"


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12), st.integers(1, 4))
def test_best_spans_are_the_best_of_all(logits, longest):
    first, last = np.array(logits).T
    starts = np.arange(len(logits)) - 1  # the first token is none of the context's
    found = best_spans(first, last, starts, starts + 1, longest)
    every = [
        (a - 1, b, first[a] + last[b]) for a in range(1, len(first)) for b in range(a, min(len(first), a + longest))
    ]
    assert found[0].tolist() == [-1, -1, first[0] + last[0]]
    assert sorted(found[1:, 2].tolist()) == pytest.approx(sorted(score for _, _, score in every)[-20:])
    for a, b, score in found[1:].tolist():
        assert any((x, y) == (a, b) and z == pytest.approx(score) for x, y, z in every)


def test_windows_are_merged_by_their_best_spans():
    windows = [np.array([[-1, -1, 5.0], [0, 3, 1.0]]), np.array([[-1, -1, 2.0], [4, 6, 3.0], [0, 3, 1.5]])]
    assert merged(windows) == (2.0, [(4, 6, 3.0), (0, 3, 1.5)])
    assert merged([np.array([[-1, -1, 5.0]])]) == (5.0, [(0, 0, -1e30)])


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1, 1)), min_size=1, max_size=8))
def test_the_threshold_gives_the_largest_sum(rows):
    leads, gains = (np.array(column, float) for column in zip(*rows, strict=True))
    found = best_threshold(leads, gains)
    best = max(gains[leads <= edge].sum() for edge in [-9.0, *leads])
    assert gains[leads <= found].sum() == pytest.approx(best)


def test_the_metric_is_squads():
    found = ["The London.", "york", "", "x"]
    right = [["london", "in Paris"], ["new york"], [], []]
    scores = compute_metrics(["squad"], Outputs("text", found, right))
    assert scores["exact_match"] == 0.5
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert scores["f1/answerable"] == pytest.approx(5 / 6)
    assert scores["exact_match/unanswerable"] == 0.5
    from nlp_pipeline.evaluation.metrics import load_metric

    assert load_metric("squad").compute(predictions=found, references=right) == scores
