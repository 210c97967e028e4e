"""The example of a task of one's own fulfils the contract of every task."""

from pathlib import Path

import pytest
from contract import RecipeContract

from nlp_pipeline import Recipe
from nlp_pipeline.config import build_config
from nlp_pipeline.tasks import recipe_class

FILE = Path(__file__).parents[2] / "examples" / "preferred_reply.py"
REPLIES = ["your card is on the way", "we don't know", "please pay in london", "no", "the parcel is late"]
ROWS = [
    {
        "first": REPLIES[i % 5],
        "second": REPLIES[(i * 3 + 1) % 5] + " today",
        "preferred": ("first", "second")[i % 5 in (1, 3)],
    }
    for i in range(14)
]
CONFIG = {
    "task": "text-classification",
    "recipe": f"{FILE}:PreferredReply",
    "model": "any",
    "data": {"train": "hub:user/name"},
}


class TestPreferredReply(RecipeContract):
    recipe = recipe_class(build_config(CONFIG))
    rows = ROWS
    settings = {"recipe": CONFIG["recipe"]}
    undetermined = ("classifier.bias",)  # the difference of two scores takes it out
    plain = [(row["first"], row["second"]) for row in ROWS[:6]]
    wrong = [({"first": "x", "preferred": "first"}, "second")]

    # The saved run names the file, whose code runs on request only: below.
    test_run_leaves_everything_and_predicts_the_same_after_reload = None

    def alone(self, folder):
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        found = []
        for pair in self.plain:
            with torch.no_grad():
                scores = model(**tokenizer(list(pair), padding=True, return_tensors="pt")).logits
            found.append(("first", "second")[int(scores.argmax())])
        return found


def test_it_is_short_and_has_no_loop_of_its_own():
    text = FILE.read_text()
    assert len(text.splitlines()) < 60
    assert not any(word in text for word in ("backward", "optimizer", "DataLoader"))


def test_a_recipe_file_names_it_and_the_saved_model_finds_it(tiny_bert, tmp_path):
    recipe = recipe_class(build_config(CONFIG))(
        model=tiny_bert, train=ROWS, recipe=f"{FILE}:PreferredReply", max_steps=1, dir=str(tmp_path / "run")
    )
    recipe.run(progress=False)
    again = Recipe.from_pretrained(tmp_path / "run", trust_remote_code=True)
    assert type(again).__name__ == "PreferredReply"
    assert again.predict(ROWS, progress=False) == recipe.predict(ROWS, progress=False)
    assert {row["prediction"] for row in again.predict(ROWS, progress=False)} <= {"first", "second"}
    with pytest.raises(Exception, match=r"trust_remote_code|trust-remote-code"):
        Recipe.from_pretrained(tmp_path / "run")
