"""The README's Python runs as written, and its recipe is valid."""

import re
from pathlib import Path

import pytest
import yaml

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


@pytest.mark.slow
def test_the_python_page_runs_as_written(tmp_path, monkeypatch, capsys, minilm):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(block("python"), namespace)
    scores = namespace["results"]["scores"]
    assert scores["accuracy"] > 2 * namespace["results"]["baseline"]["scores"]["accuracy"]
    assert "runs/readme" in repr(namespace["recipe"])
    assert "accuracy" in namespace["recipe"]._repr_html_()


def test_the_recipe_is_valid(tmp_path, monkeypatch):
    from nlp_pipeline.config import build_config

    monkeypatch.chdir(tmp_path)
    Path("messages.csv").write_text("body,intent\na,b\n")
    build_config(yaml.safe_load(block("yaml")))


def test_every_file_that_is_linked_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
