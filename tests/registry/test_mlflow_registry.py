"""A registry in MLflow: in a database, over its HTTP server, and read by MLflow itself in a clean process."""

import json
import shutil
import subprocess
import sys

import pytest
from commands import call
from registry.services import list_show_promote_diff, mlflow_running, skip_without, survive_kills

from nlp_pipeline import Recipe
from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.pulling import find, pull
from nlp_pipeline.registry.pushing import push

TARGET = "mlflow:topics"
# What MLflow 3.17 says of its own code when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
READ = """
import json, sys, mlflow
model = mlflow.pyfunc.load_model("models:/topics@production")
rows = [json.loads(line) for line in open(sys.argv[1])]
answers = model.predict([row["row"]["text"] for row in rows])
assert list(answers.columns) == [column.name for column in model.metadata.signature.outputs.inputs]
assert model.input_example == [row["row"]["text"] for row in rows[:2]], model.input_example
for row, label, score in zip(rows, answers["label"], answers["score"], strict=True):
    assert label == row["expected"]["prediction"], (row, label)
    assert abs(score - row["expected"]["score"]) < 1e-3, (row, score)
print(mlflow.transformers.load_model("models:/topics/1").task)
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty database: to make one takes MLflow seconds."""
    skip_without("mlflow")
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    make = "import sys, mlflow; mlflow.MlflowClient(sys.argv[1]).search_experiments()"
    words = [sys.executable, "-c", make, f"sqlite:///{file}"]
    subprocess.run(words, cwd=file.parent, check=True, capture_output=True)
    return file


@pytest.fixture(autouse=True)
def _database(database, tmp_path, monkeypatch):
    shutil.copy(database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("NLP_PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts beside its database's process


@pytest.mark.slow
def test_a_version_predicts_here_and_in_mlflow_alone(finished, tmp_path, capsys):
    assert call("push", finished, TARGET, "--alias", "production") == 0
    assert "mlflow:topics:1 @production, 12 rows checked in a clean process" in capsys.readouterr().out
    ours = Recipe.from_pretrained(finished).predict(["the card 1"])
    assert Recipe.from_pretrained(f"{TARGET}@production").predict(["the card 1"]) == ours
    assert call("registry", "pull", f"{TARGET}:1", "-o", tmp_path / "pulled") == 0
    files = {path.name for path in (finished / "model").iterdir()}
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == files
    done = subprocess.run(
        [sys.executable, "-P", "-c", READ, str(finished / "sample.jsonl")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("text-classification")


def test_versions_aliases_list_show_promote_diff(run, capsys):
    list_show_promote_diff(TARGET, "mlflow:", run, capsys)


def test_a_damaged_artifact_is_found(finished, tmp_path):
    push(finished, TARGET, verify=False)
    (weights,) = (tmp_path / "mlruns").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(RegistryError, match="was damaged or changed"):
        pull(TARGET, tmp_path / "pulled")
    weights.unlink()
    with pytest.raises(RegistryError, match=r"model\.safetensors is missing there"):
        pull(TARGET, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_artifacts_that_arrive_damaged_make_no_version(finished, monkeypatch):
    from mlflow import MlflowClient

    real = MlflowClient.log_artifacts

    def damaged(self, run_id, folder, path):
        real(self, run_id, folder, path)
        (config,) = [file for file in self.list_artifacts(run_id, "model/model") if file.path.endswith("config.json")][
            :1
        ]
        (finished.parent / "config.json").write_text("{}")
        self.log_artifact(run_id, str(finished.parent / "config.json"), config.path.rpartition("/")[0])

    monkeypatch.setattr(MlflowClient, "log_artifacts", damaged)
    with pytest.raises(RegistryError, match=r"config\.json: found a file with the SHA-256"):
        push(finished, TARGET, verify=False)
    monkeypatch.undo()
    with pytest.raises(RegistryError, match="there is no such model"):
        find(TARGET)


def test_a_version_that_no_push_made_is_said(tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.create_run(client.create_experiment("others")).info
    client.create_registered_model("topics")
    client.create_model_version("topics", f"{run.artifact_uri}/model", run.run_id)
    with pytest.raises(RegistryError, match="was not pushed by nlp-pipeline"):
        find(TARGET)
    with pytest.raises(RegistryError, match="there is no such version; there are versions 1 to 1"):
        find(f"{TARGET}:2")
    with pytest.raises(RegistryError, match="there is no such alias"):
        find(f"{TARGET}@production")


def test_a_server_that_is_not_there_is_a_message(finished, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert call("push", finished, TARGET, "--no-verify") == 2
    assert "is MLFLOW_TRACKING_URI right?" in capsys.readouterr().err


def test_what_the_flavor_of_transformers_cannot_do_is_left_out(finished, tmp_path):
    from mlflow.models import Model

    from nlp_pipeline.registry.mlflow_flavor import write_flavor
    from nlp_pipeline.registry.packing import pack_run

    pack = pack_run(finished)

    def flavors(task, rows):
        folder = tmp_path / task / str(len(rows[0]))
        folder.mkdir(parents=True)
        settings = json.loads((pack.folder / "nlp_pipeline.json").read_text())
        settings["config"]["task"] = task
        (folder.parent / "nlp_pipeline.json").write_text(json.dumps(settings))
        files = {name: pack.folder / name for name in pack.files} | {
            "nlp_pipeline.json": folder.parent / "nlp_pipeline.json"
        }
        write_flavor(folder, pack.about, files, rows)
        return Model.load(str(folder)).flavors.keys()

    assert flavors("text-classification", [{"text": "a"}]) == {"transformers", "python_function"}
    assert flavors("text-classification", [{"text": "a", "text_pair": "b"}]) == {"transformers"}
    assert flavors("instruction-tuning", [{"text": "a"}]) == {"transformers", "python_function"}
    assert flavors("multiple-choice", [{"question": "a", "choices": ["b", "c"]}]) == {"nlp_pipeline"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_over_http_leave_the_old_version_or_the_whole_new_one(run, tmp_path, monkeypatch):
    with mlflow_running(tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        survive_kills(TARGET, run, tmp_path / "read")
