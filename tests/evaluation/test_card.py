"""The model card: metadata that the Hub's own library reads, figures of these weights, a snippet that runs."""

import json
import re

import pytest
from registry.runs import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_bert):
    return finished_run(tiny_bert, tmp_path_factory.mktemp("card") / "run")


def test_the_hubs_library_reads_the_evaluation_of_these_weights(run):
    from huggingface_hub import ModelCard

    card = ModelCard.load(run / "model" / "README.md")
    results = json.loads((run / "results.json").read_text())
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found == {k: round(v, 6) for k, v in results["scores"].items() if v is not None and "/" not in k}
    assert card.data.pipeline_tag == "text-classification"
    assert "95% interval" in card.text
    assert "max_steps: 2" in card.text
    assert "## Limits" in card.text


def test_the_snippet_runs_as_written(run, capsys):
    snippet = re.search(r"```python\n(.*?)```", (run / "model" / "README.md").read_text(), re.DOTALL)[1]
    exec(snippet.replace("PATH_OF_THIS_FOLDER", str(run / "model")), {})
    assert "label" in capsys.readouterr().out
