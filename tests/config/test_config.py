"""Recipe files: everything wrong in one message, exit code 2, no traceback, before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import ConfigError
from nlp_pipeline.config import Config, apply_overrides, load_config, set_setting
from nlp_pipeline.config.json_schema import recipe_schema
from nlp_pipeline.config.loading import read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*/*.yaml"))


@pytest.fixture
def recipe_file(tmp_path, tiny_bert):
    """Writes a good recipe with changes and returns its path."""
    (tmp_path / "rows.csv").write_text("text,label\nthe card,a\nthe money,b\n")

    def write(changes=None, text=None):
        raw = {"task": "text-classification", "model": tiny_bert, "data": {"train": str(tmp_path / "rows.csv")}}
        for key, value in (changes or {}).items():
            set_setting(raw, key, value)
        path = tmp_path / "recipe.yaml"
        path.write_text(text if text is not None else yaml.safe_dump(raw))
        return path

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_recipe_of_the_project_is_valid(path, tmp_path, monkeypatch):
    raw, problems = read_recipe(path)
    assert not problems
    data = raw["data"]
    files = [value for key, value in data.items() if key in ("train", "validation", "test")]
    monkeypatch.chdir(tmp_path)
    for file in files:
        if ":" not in file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("{}\n")
    if teacher := raw.get("teacher"):
        (tmp_path / teacher["name"] / "model").mkdir(parents=True)
        (tmp_path / teacher["name"] / "model" / "config.json").write_text("{}")
    assert load_config(path).name == path.stem
    assert path.parent.name == raw["task"]


WRONG = {
    "unknown key with its nearest match": (
        {"training.learning_rat": 1},
        ["training.learning_rat: unknown key; did you mean learning_rate?"],
    ),
    "a word for a number": ({"training.epochs": "many"}, ["training.epochs: found 'many', expected a valid number"]),
    "out of range": ({"training.learning_rate": -1}, ["training.learning_rate: found -1, expected greater than 0"]),
    "unknown task": (
        {"task": "text-clasification"},
        ["task: found 'text-clasification'; did you mean text-classification?"],
    ),
    "no such choice": (
        {"training.schedule": "liner"},
        ["training.schedule: found 'liner', expected 'linear', 'cosine'"],
    ),
    "missing model folder": ({"model": "/no/such/folder"}, ["model: there is no folder '/no/such/folder'"]),
    "missing package": ({"model": "package:no_such_package/model"}, ["pip install no-such-package"]),
    "metric of another kind": ({"evaluation.metrics": ["pearson"]}, ["metric 'pearson' does not fit single_label"]),
    "unknown metric": ({"evaluation.metrics": ["acuracy"]}, ["acuracy", "accuracy"]),
    "unknown option": ({"options.problm": "regression"}, ["options.problm: unknown key; did you mean problem?"]),
    "early stopping without validation": (
        {"training.early_stopping.patience": 2},
        ["needs validation rows", "data.validation_fraction=0.1"],
    ),
    "micro-batch above the batch": (
        {"batch.micro": 64},
        ["batch.micro: found 64, expected at most batch.size, which is 32"],
    ),
    "best metric that isn't measured": (
        {"evaluation.best": "f1_micro"},
        ["evaluation.best: 'f1_micro' is not measured"],
    ),
    "column the task doesn't read": (
        {"data.columns.txt": "body"},
        ["data.columns.txt: text-classification reads no such column"],
    ),
    "a missing file": ({"data.train": "nowhere.csv"}, ["nowhere.csv"]),
    "half a section": ({"training": "fast"}, ["training: found 'fast'"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_recipe(name, recipe_file):
    changes, expected = WRONG[name]
    with pytest.raises(ConfigError) as error:
        load_config(recipe_file(changes))
    for text in expected:
        assert text in str(error.value)


def test_everything_wrong_is_in_one_message(recipe_file):
    changes = {
        "training.learning_rat": 1,
        "training.epochs": "many",
        "batch.size": 0,
        "data.columns.txt": "body",
        "options.threshold": 3,
        "evaluation.metrics": ["acuracy"],
        "model": "/no/such/folder",
    }
    with pytest.raises(ConfigError) as error:
        load_config(recipe_file(changes), ["training.seed=-1", "nonsense"])
    problems = "\n".join(error.value.problems)
    for place in ["learning_rat", "training.epochs", "batch.size", "columns.txt", "threshold", "acuracy", "/no/such"]:
        assert place in problems
    assert "training.seed" in problems
    assert "'nonsense': expected key=value" in problems
    assert len(error.value.problems) == 9, problems


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1\n", "task: x\ntask: y\n", "a: &a [*a]\n", "\0"])
def test_files_that_are_no_recipe(recipe_file, text):
    with pytest.raises(ConfigError):
        load_config(recipe_file(text=text))


def test_command_line_prints_one_message_and_exits_with_2_before_torch(recipe_file):
    path = recipe_file({"training.learning_rat": 1, "batch.size": "x"})
    code = (
        "import sys\nfrom nlp_pipeline.cli import main\n"
        f"try:\n    main(['train', {str(path)!r}, 'trainin.epochs=1'])\n"
        "finally:\n    print('torch' in sys.modules, 'datasets' in sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert answer.stderr.startswith("error: The recipe has problems: 3 problems")
    assert answer.stdout.strip() == "False False"


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, nlp_pipeline\nfrom nlp_pipeline.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in answer.stdout
    assert "train" in answer.stdout


def test_a_setting_may_go_by_its_own_name_where_that_is_unique(recipe_file):
    config = load_config(recipe_file(), ["epochs=7", "learning_rate=1e-3", "max_length=9"])
    assert (config.training.epochs, config.training.learning_rate, config.tokenization.max_length) == (7, 1e-3, 9)
    with pytest.raises(ConfigError, match=r"every: several sections have it; write one of evaluation\.every"):
        load_config(recipe_file(), ["every=3"])


def test_model_given_as_a_name_can_still_be_detailed(recipe_file, tiny_bert):
    config = load_config(recipe_file(), ["model.revision=abc"])
    assert (config.model.name, config.model.revision) == (tiny_bert, "abc")


def test_schema_accepts_the_recipes_and_refuses_unknown_keys():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(recipe_schema()))
    for path in RECIPES:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"task": "text-classification", "model": "x", "data": {}, "optons": {}}, schema)


values = st.one_of(
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.text(st.characters(categories=["L", "N"]), max_size=5),
    st.none(),
    st.booleans(),
)
keys = st.sampled_from(["training.epochs", "batch.size", "model.name", "data.columns.text", "options.problem", "name"])


@given(st.lists(st.tuples(keys, values), max_size=8))
def test_the_last_override_of_a_key_wins_and_the_others_stay(pairs):
    raw = {"model": "m"}
    problems = apply_overrides(raw, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs])
    assert not problems
    for key, value in dict(pairs).items():
        found = raw
        for part in key.split("."):
            found = found[part]
        assert found == value or (isinstance(value, float) and isinstance(found, str))


@given(st.dictionaries(st.sampled_from(list(Config.model_fields)), st.recursive(values, st.lists, max_leaves=4)))
def test_any_mapping_gives_a_config_or_a_config_error(raw):
    from nlp_pipeline.config import build_config

    try:
        build_config(raw)
    except ConfigError:
        return
