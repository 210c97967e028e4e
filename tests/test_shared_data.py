"""The recipes of the public data sets read their real files; a tiny model trains two steps on each."""

import json
from pathlib import Path

import pytest

from nlp_pipeline import Recipe
from nlp_pipeline.config.loading import read_recipe

ROOT = Path(__file__).parents[1]
RECIPES = [
    path
    for path in sorted(ROOT.glob("recipes/*/*.yaml"))
    if str(read_recipe(path)[0]["data"]["train"]).startswith("data/")
]


@pytest.fixture
def trained(shared_data, tiny_bert, tmp_path):
    """Trains a recipe on its real rows for two steps."""

    def train(path):
        data = read_recipe(path)[0]["data"]
        files = {
            split: str(shared_data / Path(data[split]).relative_to("data"))
            for split in ("train", "validation", "test")
            if split in data
        }
        model = read_recipe(path)[0]["model"]
        if isinstance(model, dict) and "architecture" in model:
            small = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
            if model["architecture"]["model_type"] == "t5":
                small = {"num_layers": 1, "num_heads": 2, "d_model": 32, "d_kv": 16, "d_ff": 64}
            tiny = {"name": tiny_bert, "architecture": {**model["architecture"], **small}}
        else:
            tiny = tiny_bert
        # A teacher has to be trained first: what it is for has tests of its own.
        alone = {"teacher": None} if "teacher" in read_recipe(path)[0] else {}
        brief = {"evaluation": {**read_recipe(path)[0].get("evaluation", {}), "intervals": None}}
        if "generation" in read_recipe(path)[0]:
            brief["generation"] = {"max_new_tokens": 4}
        recipe = Recipe.from_yaml(
            path, **files, **alone, **brief, model=tiny, max_length=128, max_steps=2, dir=str(tmp_path / "run")
        )
        recipe.run(progress=False)
        return recipe

    return train


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_reads_its_rows(path, trained):
    recipe = trained(path)
    lines = (recipe.run_directory.predictions / "test.jsonl").read_text().splitlines()
    assert len(lines) == len(recipe.splits.test) > 180


def test_pipeline_gives_the_predictions_of_predict_on_all_of_banking77(shared_data, tiny_bert, tmp_path):
    from transformers import pipeline

    files = {split: str(shared_data / "banking77" / f"{split}.jsonl") for split in ("train", "test")}
    path = ROOT / "recipes" / "text-classification" / "banking77.yaml"
    recipe = Recipe.from_yaml(path, **files, model=tiny_bert, max_steps=2, dir=str(tmp_path / "run"))
    recipe.run(progress=False)
    texts = [json.loads(line)["text"] for line in Path(files["test"]).read_text().splitlines()]
    classify = pipeline("text-classification", model=str(recipe.run_directory.model))
    theirs = [answer["label"] for answer in classify(texts, batch_size=64, truncation=True)]
    written = (recipe.run_directory.predictions / "test.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in written] == theirs
    assert [record["prediction"] for record in recipe.predict(texts)] == theirs
