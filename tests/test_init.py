import json
import random
import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from nlp_pipeline import Recipe
from nlp_pipeline.cli import main
from nlp_pipeline.config import Config, load_config
from nlp_pipeline.data.carve import carve
from nlp_pipeline.errors import ConfigError, DataError
from nlp_pipeline.init import settings, write_recipe
from nlp_pipeline.init.file import find_delimiter
from nlp_pipeline.init.writing import default_output

TOPICS = ("delivery", "billing", "account")
WORDS = "my parcel is late where the order money was paid twice please help me with this card password".split()
ROWS = 120
Init = Callable[..., tuple[Config, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def init(here: Path, tiny_bert: str) -> Init:
    """Writes the recipe for a file, and returns its config and what was printed."""

    def run(data: str, **options: Any) -> tuple[Config, str]:
        lines = write_recipe(Path(data), options.get("output"), options.get("model", tiny_bert), False)
        recipe = Path(shlex.split(lines[-1])[-1])
        return load_config(recipe), "\n".join(lines)

    return run


def texts(count: int, seed: int = 0) -> list[str]:
    """Sentences, all different."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=draw.randint(4, 9)))} {number}" for number in range(count)]


def cycle(values: Sequence[Any], count: int = ROWS) -> list[Any]:
    return [values[row % len(values)] for row in range(count)]


def write_csv(path: str, columns: dict[str, Sequence[Any]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    lines = [delimiter.join(str(value) for value in row) for row in rows]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines) + "\n", encoding=encoding)


def write_jsonl(path: str, columns: dict[str, Sequence[Any]]) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_csv_with_one_label(init: Init) -> None:
    ids = [f"m{row}" for row in range(ROWS)]
    write_csv("messages.csv", {"id": ids, "text": texts(ROWS), "label": cycle(TOPICS)})
    config, out = init("messages.csv")
    assert config.task == "text-classification"
    assert config.options == {"problem": "single_label"}
    assert config.data.train == "messages.csv"
    assert config.data.columns == {"text": "text", "label": "label"}
    assert config.data.id_column == "id"
    assert (config.data.validation_fraction, config.data.test_fraction) == (0.1, 0.1)
    assert (config.data.encoding, config.data.delimiter) == ("utf-8", None)
    assert (config.batch.size, config.training.epochs, config.training.learning_rate) == (32, 10, 5e-5)
    assert config.tokenization.max_length == 32
    assert '3 distinct labels: "delivery", "billing", "account"' in out
    assert "loaded: 96 train, 12 validation, 12 test rows, 3 labels" in out
    assert out.endswith("nlp-pipeline train messages.yaml")


def test_every_value_has_its_reason_beside_it(init: Init) -> None:
    write_csv("messages.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    init("messages.csv")
    lines = Path("messages.yaml").read_text().splitlines()
    plain = {"train: messages.csv"}
    for before, line in pairwise(lines):
        if not line.endswith(":") and not line.lstrip().startswith("#") and line.strip() not in plain:
            assert before.lstrip().startswith("# "), line


def test_columns_by_content_where_no_name_tells(init: Init) -> None:
    columns = {"when": range(ROWS), "kind": cycle(TOPICS), "was_geschrieben": texts(ROWS), "code": cycle("ab")}
    write_csv("x.csv", columns)
    config, out = init("x.csv")
    assert config.data.columns == {"text": "was_geschrieben", "label": "kind"}
    assert "the longest texts" in out
    assert 'other columns that could be the label: "code"' in out


def test_semicolons_and_another_encoding(init: Init) -> None:
    bodies = [f"Grüße, das Päckchen ist beschädigt ({text})" for text in texts(ROWS)]
    write_csv("post.csv", {"text": bodies, "label": cycle(("größer", "kleiner"))}, ";", "cp1252")
    config, out = init("post.csv")
    assert (config.data.encoding, config.data.delimiter) == ("cp1252", ";")
    assert "Grüße" in out  # the user can see whether the encoding is right
    assert '"größer"' in out
    assert "# the file is not UTF-8" in Path("post.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_the_readers_business(init: Init, encoding: str) -> None:
    bodies = [f"Päckchen {text}" for text in texts(ROWS)]
    write_csv("post.csv", {"text": bodies, "label": cycle(TOPICS)}, encoding=encoding)
    config, _ = init("post.csv")
    assert config.data.encoding == "utf-8"  # each file is read by its own mark
    assert config.data.columns == {"text": "text", "label": "label"}


@pytest.mark.parametrize(
    ("text", "usual", "expected"),
    [
        ("text,label\na;b;c,x\nd;e;f,y\n", ",", ","),
        ("text;label\na, b, c;x\nd, e;y\n", ",", ";"),
        ("text\tlabel\na, b\tx\n", ",", "\t"),
        ("text|label\na|x\n", ",", "|"),
        ('text,label\n"two\nlines, one field",x\n', ",", ","),
        ("text\tlabel\na\tx\n", "\t", "\t"),
        ("text,label\na,x\n", "\t", ","),
        ("only one column\nhere\n", ",", ","),
    ],
)
def test_delimiters(text: str, usual: str, expected: str) -> None:
    assert find_delimiter(pa.py_buffer(text.encode()), usual) == expected


def test_token_tags(init: Init) -> None:
    tokens = [text.split() for text in texts(ROWS)]
    tags = [["B-item", "I-item", *["O"] * (len(row) - 2)] for row in tokens]
    write_jsonl("entities.jsonl", {"tokens": tokens, "pos": cycle([["x"], ["y"]]), "ner_tags": tags})
    config, out = init("entities.jsonl")
    assert config.task == "token-classification"
    assert config.data.columns == {"tokens": "tokens", "tags": "ner_tags"}
    assert config.options == {"scheme": "iob2"}
    assert '"B-item"' in out


def test_plain_tags_separated_by_blanks(init: Init) -> None:
    words = texts(ROWS)
    tags = [" ".join(cycle(("NOUN", "VERB"), len(text.split()))) for text in words]
    write_csv("pos.csv", {"words": words, "tags": tags})
    config, _ = init("pos.csv")
    assert config.data.columns == {"tokens": "words", "tags": "tags"}
    assert config.options == {"scheme": "plain"}


def test_class_ids_as_tags_say_how_to_name_them(init: Init) -> None:
    tokens = [text.split() for text in texts(ROWS)]
    write_jsonl("ner.jsonl", {"tokens": tokens, "ner_tags": [cycle((0, 0, 1, 2), len(row)) for row in tokens]})
    config, out = init("ner.jsonl")
    assert config.options == {"scheme": "plain"}
    assert "tag_names: [O, B-…, I-…]" in out


@pytest.mark.parametrize(
    "labels",
    [("late|damaged", "late", "damaged|rude", "rude"), ("late; damaged", "late", "rude; late", "damaged")],
)
def test_several_labels_in_a_string(init: Init, labels: tuple[str, ...]) -> None:
    write_csv("many.csv", {"review": texts(ROWS), "tags": cycle(labels)})
    config, out = init("many.csv")
    assert config.options == {"problem": "multi_label"}
    assert config.data.columns == {"text": "review", "labels": "tags"}
    assert "3 distinct labels" in out


def test_several_labels_in_lists(init: Init) -> None:
    rows = pa.table({"text": texts(ROWS), "labels": cycle([["a", "b"], ["b"], ["a"]])})
    parquet.write_table(rows, "many.parquet")
    config, _ = init("many.parquet")
    assert config.options == {"problem": "multi_label"}


def test_a_column_a_label(init: Init) -> None:
    write_csv("toxic.csv", {"comment": texts(ROWS), "rude": cycle((0, 1)), "threat": cycle((0, 0, 1))})
    config, _ = init("toxic.csv")
    assert config.data.columns == {"text": "comment", "labels": ["rude", "threat"]}


def test_commas_within_a_label_do_not_make_several(init: Init) -> None:
    labels = cycle(("Arts, crafts and sewing", "Home; garden"))
    write_jsonl("shop.jsonl", {"text": texts(ROWS), "category": labels})
    config, _ = init("shop.jsonl")
    assert config.options == {"problem": "single_label"}


def test_rare_labels_outside_the_training_rows_still_belong_to_the_task(init: Init) -> None:
    labels = cycle((["a"], ["b"], ["a", "b"]))
    labels[carve(ROWS, 0.1, 0.1, seed=13).validation[0]] = ["rare"]  # the default split takes it out of training
    write_jsonl("rare.jsonl", {"text": texts(ROWS), "labels": labels})
    config, out = init("rare.jsonl")
    assert "3 labels" in out
    assert config.data.split_seed == 13


def test_numbers_with_fractions(init: Init) -> None:
    write_csv("scores.csv", {"sentence": texts(ROWS), "rating": cycle((1.0, 1.5, 2.5, 4.0, 5.0))})
    config, out = init("scores.csv")
    assert config.options == {"problem": "regression"}
    assert config.data.columns == {"text": "sentence", "score": "rating"}
    assert "numbers from 1 to 5" in out


def test_many_whole_numbers_are_an_amount(init: Init) -> None:
    write_csv("price.csv", {"text": texts(ROWS), "dollars": [7 * row + 20 for row in range(ROWS)]})
    assert init("price.csv")[0].options == {"problem": "regression"}


def test_two_rows_a_label_give_no_test_rows(init: Init) -> None:
    write_csv("two.csv", {"text": texts(ROWS), "label": [f"label {row // 2}" for row in range(ROWS)]})
    config, out = init("two.csv")
    assert (config.data.validation_fraction, config.data.test_fraction) == (0.1, 0)
    assert "too few rows of each label" in Path("two.yaml").read_text()
    assert "60 labels" in out


@pytest.mark.parametrize(("name", "classes"), [("rating", 5), ("label", 40)])
def test_whole_numbers_without_gaps_are_classes(init: Init, name: str, classes: int) -> None:
    write_csv("x.csv", {"text": texts(ROWS), name: cycle(range(classes))})
    config, out = init("x.csv")
    assert config.options == {"problem": "single_label"}
    assert "`problem: regression`" in out


def test_pairs(init: Init) -> None:
    labels = cycle(("entailment", "neutral"))
    write_jsonl("nli.jsonl", {"premise": texts(ROWS), "hypothesis": texts(ROWS, 1), "label": labels})
    config, _ = init("nli.jsonl")
    assert config.data.columns == {"text": "premise", "text_pair": "hypothesis", "label": "label"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("text1", "text2"), {"text": "text1", "text_pair": "text2"}),
        (("question", "answer"), {"text": "question", "text_pair": "answer"}),
        (("document",), {"text": "document"}),
        (("hypothesis",), {"text": "hypothesis"}),
        (("title", "body"), {"text": ["title", "body"]}),
    ],
)
def test_names_of_texts(init: Init, names: tuple[str, ...], expected: dict[str, Any]) -> None:
    columns = {name: texts(ROWS, seed) for seed, name in enumerate(names)}
    write_csv("x.csv", {**columns, "label": cycle(TOPICS)})
    assert init("x.csv")[0].data.columns == {**expected, "label": "label"}


@pytest.mark.parametrize("dev", ["validation", "valid", "dev"])
def test_siblings_are_the_other_splits(init: Init, dev: str) -> None:
    for name in ("train", dev, "test"):
        write_csv(f"shop/{name}.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    config, out = init("shop/train.csv")
    assert (config.data.validation, config.data.test) == (f"shop/{dev}.csv", "shop/test.csv")
    assert (config.data.validation_fraction, config.data.test_fraction) == (0, 0)
    assert out.endswith("nlp-pipeline train shop.yaml")


def test_a_test_file_without_labels_is_left_out(init: Init) -> None:
    write_csv("train.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    write_csv("test.csv", {"text": texts(ROWS)})
    config, out = init("train.csv", output=Path("x.yaml"))
    assert config.data.test is None
    assert config.data.test_fraction == 0.1
    assert 'test.csv is left out: it has no column "label"' in out


def test_few_rows(init: Init) -> None:
    write_csv("few.csv", {"text": texts(30), "label": cycle(TOPICS, 30)})
    config, out = init("few.csv")
    assert (config.data.validation_fraction, config.data.test_fraction) == (0.2, 0)
    assert "30 rows are too few for test rows" in out


def test_rows_without_a_label_are_left_out(init: Init) -> None:
    write_csv("gaps.csv", {"text": texts(ROWS), "label": ["", *cycle(TOPICS)[1:]]})
    config, out = init("gaps.csv")
    assert config.data.missing_labels == "drop"
    assert "1 row of gaps.csv" in out


def test_an_id_that_repeats_elsewhere_is_not_used(init: Init) -> None:
    columns = {"text": texts(ROWS), "label": cycle(TOPICS)}
    write_csv("train.csv", {"uid": range(ROWS), **columns})
    write_csv("test.csv", {"uid": cycle(range(5)), **columns})
    assert init("train.csv", output=Path("x.yaml"))[0].data.id_column is None


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": texts(ROWS), "completion": texts(ROWS, 1)}, "no column holds labels"),
        ({"text": texts(ROWS), "label": texts(ROWS, 1)}, '"label" has 120 distinct values in 120 rows'),
        ({"x": cycle("ab"), "y": cycle("cd")}, "no column holds texts"),
        ({"what i wrote to the shop": texts(ROWS), "2": texts(ROWS, 1)}, "Is the header line missing?"),
    ],
)
def test_what_cannot_be_guessed(init: Init, columns: dict[str, list[str]], expected: str) -> None:
    write_csv("x.csv", columns)
    with pytest.raises(DataError) as error:
        init("x.csv")
    assert expected in str(error.value)
    assert "columns there: " in str(error.value)
    assert "columns: {text: COLUMN, label: COLUMN}" in str(error.value)
    assert not Path("x.yaml").exists()


@pytest.mark.parametrize(
    ("header", "labels", "expected"),
    [("delivery", TOPICS, "is the header line missing?"), ("score", ('"1,5"', '"2"', '"3,5"'), "decimal comma")],
)
def test_labels_that_would_be_misread(init: Init, header: str, labels: tuple[str, ...], expected: str) -> None:
    write_csv("x.csv", {"text": texts(ROWS), header: cycle(labels)})
    with pytest.raises(DataError, match=expected):
        init("x.csv")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.csv", None, "there is no file"),
        ("empty.csv", "", "empty"),
        ("header.csv", "text,label\n", "no rows"),
        ("sheet.xlsx", "x", "Save a spreadsheet as CSV"),
        ("ragged.csv", "text,label\na,b,c\n", "without exactly the 2 fields"),
        ("bad.jsonl", '{"text": "a"\n', "JSON"),
    ],
)
def test_unreadable_files(init: Init, name: str, content: str | None, expected: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(DataError, match=expected) as error:
        init(name)
    assert name in str(error.value)


def test_a_folder_lists_its_files(init: Init) -> None:
    write_csv("folder/train.csv", {"text": ["a"]})
    with pytest.raises(DataError, match=r"is a folder.*train\.csv"):
        init("folder")


def test_nothing_is_overwritten_unasked(init: Init, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv("x.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    Path("x.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        init("x.csv")
    assert Path("x.yaml").read_text() == "mine"
    main_exits(["init", "x.csv", "--force"])
    assert "nlp-pipeline train x.yaml" in capsys.readouterr().out
    assert Path("x.yaml").read_text() != "mine"


def main_exits(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


def test_a_model_that_is_not_there(init: Init) -> None:
    write_csv("x.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    with pytest.raises(ConfigError, match="no folder"):
        init("x.csv", model="./no/such/model")
    assert not Path("x.yaml").exists()


def test_the_default_model_with_and_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Path(__file__).parents[1] / "recipes/text-classification/sample-topics.yaml"
    shipped = yaml.safe_load(recipe.read_text())["model"]
    assert (shipped["name"], shipped["sha256"]) == (settings.PACKAGE_MODEL, settings.PACKAGE_SHA256)
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: None)
    name, sha256, why = settings.choose_model(None)
    assert (name, sha256) == (settings.HUB_MODEL, None)
    assert "fetched from the Hugging Face Hub" in why
    assert settings.choose_learning_rate(name)[0] == 2e-4


def test_max_length_is_bounded_by_the_model(init: Init) -> None:
    long = [f"{'word ' * 400}{row}" for row in range(ROWS)]
    write_csv("long.csv", {"text": long, "label": cycle(TOPICS)})
    config, out = init("long.csv")
    assert config.tokenization.max_length == 128  # tiny_bert has as many positions
    assert "about 100% of the rows are longer" in out
    assert init("long.csv", model="user/unknown", output=Path("y.yaml"))[0].tokenization.max_length == 512


@pytest.mark.parametrize(("rows", "epochs"), [(50, 10), (10_000, 4), (100_000, 2)])
def test_epochs(rows: int, epochs: int) -> None:
    assert settings.choose_epochs(rows)[0] == epochs


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("reviews.csv", "reviews.yaml"),
        ("foo/train.csv", "foo.yaml"),
        ("foo/reviews.v2.csv", "reviews.v2.yaml"),
        ("foo/train.csv.gz", "foo.yaml"),
        (".hidden/train.csv", "hidden.yaml"),
    ],
)
def test_the_recipe_is_named_after_the_data(here: Path, data: str, expected: str) -> None:
    assert default_output(Path(data)) == Path(expected)


def test_names_that_yaml_would_take_for_something_else(init: Init) -> None:
    columns = {"a: b #c\n{}": texts(ROWS), "no": cycle(("yes: #1", "no\n- x", "null"))}
    write_jsonl("it's: #1.jsonl", columns)
    config, out = init("it's: #1.jsonl")
    assert config.data.train == "it's: #1.jsonl"
    assert config.data.columns == {"text": "a: b #c\n{}", "label": "no"}
    assert shlex.split(out.splitlines()[-1])[-1] == "it's: #1.yaml"


def test_the_recipe_trains_as_it_is(init: Init) -> None:
    write_csv("messages.csv", {"text": texts(ROWS), "label": cycle(TOPICS)})
    _, out = init("messages.csv")
    results = Recipe.from_yaml(shlex.split(out)[-1], "epochs=1", "precision=fp32").run(progress=False)
    assert 0 <= results["scores"]["accuracy"] <= 1
    assert Path("runs/messages/model/model.safetensors").exists()
