"""Any text as a recipe, any value for a setting: a config, or one message; never a traceback, never a hang."""

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated, own_error_or_fine

from nlp_pipeline import ConfigError, NlpPipelineError
from nlp_pipeline.cli import main
from nlp_pipeline.config import apply_overrides, build_config, load_config
from nlp_pipeline.config.json_schema import recipe_schema
from nlp_pipeline.config.yaml_text import parse_yaml

RECIPE = b"""# comment
task: text-classification
model: {name: /no/such/folder, settings: {hidden_dropout_prob: 0.2}}
data:
  train: [rows.csv, "more-*.jsonl"]
  columns: {text: body, label: intent}
  validation_fraction: 0.1
options: {class_weights: balanced}
tokenization: {max_length: 128}
batch: &b {size: 16, micro: 8}
training: {epochs: 4, learning_rate: 2.0e-4, betas: [0.9, 0.999], early_stopping: {patience: 2}, lora: null}
evaluation: {every: epoch, metrics: [accuracy, f1_macro], best: accuracy}
output: {dir: runs/x}
"""
FRAGMENTS = (
    b"*b", b"&b", b"<<: *b", b"!!binary aGk=", b"!!set {a, b}", b"!!map x", b"!!python/object:os.system", b"? [a]\n: b",
    b"${X}", b"$${X}", b"${NLP_PIPELINE_NO_SUCH}", b'"\\0"', b'"\\ud800"', b"~nobody/x", b".inf", b".nan", b"9" * 5000,
    b"0x" + b"f" * 5000, b"2024-13-45", b"1:2:3", b"a" * 5000, b"- " * 50, b"[" * 50, b"{a: " * 2000, b"\t", b"sqlite:///x",
    b"postgresql://u:p@h/d", b"hub:a/b#c", b"memory:x", b"package:a/../b", b"../../x", b"[" * 3000, b"null", b"---", b"%TAG",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A working directory of its own: random text may name any path."""
    folder, before = tmp_path_factory.mktemp("fuzz"), os.getcwd()
    (folder / "rows.csv").write_text("body,intent\nthe card,a\nthe money,b\n")
    (folder / "more-1.jsonl").write_text('{"body": "the card", "intent": "a"}\n')
    os.chdir(folder)
    yield folder
    os.chdir(before)


def load(content: bytes, folder):
    path = folder / "x.yaml"
    path.write_bytes(content)
    return own_error_or_fine(lambda: load_config(path))


@given(
    content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
)
def test_any_bytes(content, folder):
    load(content, folder)


@given(content=mutated(RECIPE, FRAGMENTS, most=6))
def test_faults_in_a_valid_recipe(content, folder):
    load(content, folder)


@given(
    content=mutated(RECIPE, FRAGMENTS),
    overrides=st.lists(st.text(max_size=30) | st.sampled_from([f"epochs={f.decode()}" for f in FRAGMENTS]), max_size=3),
)
def test_the_command_line_exits_with_2(content, overrides, folder):
    (folder / "x.yaml").write_bytes(content)
    # The model's folder does not exist, unless a fault takes its name away: then the Hub is out of reach.
    with pytest.raises(SystemExit) as end:
        main(["train", "--quiet", "x.yaml", "--", *overrides])
    assert end.value.code == 2


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.binary(max_size=4), st.dates(),
    st.sampled_from([f.decode() for f in FRAGMENTS if len(f) < 6000] + ["", " ", ".", "..", "/", "~", "auto", "\ud800", "\0"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def settings(schema, definitions, required=True):
    """Values for a JSON Schema: of the right type, as a rule, and at times of any."""
    if "$ref" in schema:
        return settings(definitions[schema["$ref"].rpartition("/")[2]], definitions, required)
    if "anyOf" in schema:
        return st.one_of(*(settings(part, definitions) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        right = st.sampled_from(schema.get("enum", [schema.get("const")]))
    elif schema.get("type") == "object" and "properties" in schema:
        inner = {name: settings(part, definitions) for name, part in schema["properties"].items()}
        must = {name: inner[name] for name in schema.get("required", ())}
        return st.fixed_dictionaries(must, optional={k: v for k, v in inner.items() if k not in must})
    else:
        right = {
            "integer": st.integers(-2, 2**33), "number": st.floats(-1, 2), "boolean": st.booleans(), "null": st.none(),
            "string": st.text(max_size=8), "array": st.lists(st.text(max_size=4), max_size=2),
        }.get(schema.get("type"), values)  # fmt: skip
    return st.integers(0, 11).flatmap(lambda n: values if n == 0 else right)


SCHEMA = recipe_schema()
GOOD = {"task": "text-classification", "recipe": None, "model": "bert", "options": {}, "evaluation": {}, "name": "x",
        "data": {"train": "rows.csv", "validation_fraction": 0.1}}  # fmt: skip


@given(raw=settings(SCHEMA, SCHEMA["$defs"]), good=st.sets(st.sampled_from(list(GOOD))) | st.just(set(GOOD)))
def test_any_value_for_every_setting(raw, good):
    if not isinstance(raw, dict):
        raw = {}
    raw = {**raw, **{name: GOOD[name] for name in good}}
    found = own_error_or_fine(lambda: build_config(raw))
    if not isinstance(found, NlpPipelineError):
        text = yaml.safe_dump(found.public(), sort_keys=False, allow_unicode=True)
        again, problems = parse_yaml(text)
        assert not problems
        assert build_config(again).public() == found.public()  # what a run writes is read as what it was


@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_any_override(texts):
    raw = {"model": "m"}
    problems = apply_overrides(raw, texts)
    assert all(isinstance(problem, str) for problem in problems)


@pytest.mark.parametrize("depth", [3, 9, 30, 300])
@pytest.mark.parametrize("kind", ["list", "mapping", "merge", "string"])
def test_aliases_that_multiply(depth, kind, folder):
    """The billion laughs: refused by their size written out, however few lines they are."""
    first = {"list": "[lol]", "mapping": "{a: lol}", "merge": "{a: lol}", "string": "x" * 20_000}[kind]
    lines = [f"a0: &a0 {first}"]
    for i in range(1, depth):
        nine = ", ".join([f"*a{i - 1}"] * 9)
        new = {"list": f"[{nine}]", "string": f"[{nine}]", "mapping": "{" + ", ".join(f"k{j}: *a{i - 1}" for j in range(9)) + "}",
               "merge": f"{{<<: [{nine}], b{i}: 1}}"}[kind]  # fmt: skip
        lines.append(f"a{i}: &a{i} {new}")
    found = load("\n".join(lines).encode(), folder)
    assert isinstance(found, ConfigError)
    if depth > 9:
        assert "written out it is longer" in str(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: &a [*a]", "the very value that holds it"),
        (b"[" * 100_000, "nested too deeply"),
        (b"a: " + b"x" * 300_000, "larger than"),
        (b"task: !!python/object/apply:os.system [touch touched]", "could not determine a constructor"),
        (b"!!map x", "not valid YAML"),
        (b'name: "a\\0b"', "expected text without control characters"),
        (b"training: {seed: 0x" + b"f" * 5000 + b"}", "20000 bits"),
    ],
)
def test_recipes_that_used_to_end_in_something_else(text, words, folder):
    found = load(text, folder)
    assert words in str(found)
    assert not (folder / "touched").exists()


def test_endless_input_is_not_read_to_its_end():
    found = own_error_or_fine(lambda: load_config("/dev/zero"))
    assert "larger than" in str(found)
