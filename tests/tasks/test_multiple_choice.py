"""Multiple choice fulfils the contract with a number of choices that differs by row."""

import numpy as np
import pytest
from contract import RecipeContract
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import MultipleChoice
from nlp_pipeline.data.choices import places

PROMPTS = ["where is the card", "what is late", "who is paid", "when do we pay"]
CHOICES = ["in london", "the parcel is late " * 3, "you", "on the first of the month", "no"]
ROWS = [
    {"id": f"r{i}", "question": PROMPTS[i % 4], "choices": (CHOICES[i % 4 :] + CHOICES)[: 2 + i % 4], "answer": i % 2}
    for i in range(14)
]


class TestMultipleChoice(RecipeContract):
    recipe = MultipleChoice
    rows = ROWS
    undetermined = ("classifier.bias",)  # a softmax over the choices takes it out
    plain = [(row["question"], row["choices"]) for row in ROWS[:6]]
    wrong = [
        ({"question": "x", "choices": ["a", "b"], "answer": 4}, "name none of their choices"),
        ({"question": "x", "choices": ["a"], "answer": 0}, "fewer than two choices"),
    ]

    def alone(self, folder):
        import torch
        from transformers import AutoModelForMultipleChoice, AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMultipleChoice.from_pretrained(folder)
        found = []
        for prompt, choices in self.plain:
            inputs = tokenizer([prompt] * len(choices), choices, padding=True, return_tensors="pt")
            with torch.no_grad():
                logits = model.eval()(**{name: tensor[None] for name, tensor in inputs.items()}).logits
            found.append(choices[int(logits.argmax())])
        return found

    def test_examples_are_whole_however_small_the_passes(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.tokenize()
        table = recipe.tables["train"]
        assert table.sizes.tolist() == [len(row["choices"]) for row in ROWS]
        flat = table.sequences("input_ids", np.arange(len(table)))
        assert table.lengths.sum() == sum(map(len, flat))
        assert table.longest.max() == max(map(len, flat))
        batch = recipe.batch(table, np.array([3, 0]))
        assert batch.sizes.tolist() == batch.targets["sizes"].tolist() == [5, 2]
        assert batch.inputs["input_ids"].shape == (7, batch.lengths.max())

    def test_choices_may_lie_in_columns_of_their_own(self, tiny_bert):
        rows = [
            {"question": "q", "a": "one", "b": "two", "c": "" if i % 2 else "three", "label": "B"} for i in range(6)
        ]
        recipe = MultipleChoice(model=tiny_bert, train=rows, columns={"choices": ["a", "b", "c"]})
        recipe.load()
        assert recipe.splits.train[0]["choices"] == ["one", "two", "three"]
        assert recipe.splits.train[1]["choices"] == ["one", "two"]


def test_a_label_is_a_place_a_text_or_a_letter():
    assert places(["1", "b", "C", "7", "x y"], [["a", "b"], ["b", "a"], ["x", "y", "z"], ["6", "7"], ["p", "q"]]).tolist() == [
        1, 0, 2, 1, -1,
    ]  # fmt: skip


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_scores_are_laid_out_by_example(sizes, data):
    import torch

    from nlp_pipeline.modeling.losses import by_example

    values = torch.arange(sum(sizes), dtype=torch.float32)
    rows = by_example(values, np.array(sizes))
    assert torch.cat([row[:size] for row, size in zip(rows, sizes, strict=True)]).tolist() == values.tolist()
    assert rows.softmax(-1).sum(-1).tolist() == pytest.approx([1.0] * len(sizes))
    assert (rows.softmax(-1)[np.arange(max(sizes)) >= np.array(sizes)[:, None]] == 0).all()
