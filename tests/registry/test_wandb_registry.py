"""A registry in Weights & Biases, asked by the real client and its process over HTTP."""

import subprocess
import sys

import pytest
from commands import call
from registry.runs import finished_run
from registry.services import (
    list_show_promote_diff,
    number_together,
    served,
    survive_kills,
    told,
    wandb_running,
)

from nlp_pipeline import ConfigError, Recipe
from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.address import parse, parse_root
from nlp_pipeline.registry.pulling import find, pull, resolve
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry.versions import MANIFEST, SAMPLE
from nlp_pipeline.tracking.wandb_adapter import quiet_settings

TARGET = "wandb:letters/topics"


@pytest.fixture
def service(monkeypatch, tmp_path):
    monkeypatch.setenv("NLP_PIPELINE_CACHE", str(tmp_path / "cache"))
    with wandb_running(monkeypatch, tmp_path) as url:
        yield url


def names(service):
    """What was asked so far."""
    return [name for _, name, _ in told(service, "/_log")]


@pytest.mark.slow
def test_a_push_is_a_version_with_an_alias_and_predicts(service, finished, tmp_path, capsys):
    import wandb

    assert call("push", finished, TARGET, "--alias", "production") == 0
    assert f"{TARGET}:1 @production, 12 rows checked in a clean process" in capsys.readouterr().out
    artifact = wandb.Api().artifact("me/letters/topics:production")
    assert (artifact.version, artifact.type) == ("v0", "model")
    files = {path.name for path in (finished / "model").iterdir()}
    assert {file.name for file in artifact.files([*files, MANIFEST, SAMPLE, "else"])} == files | {MANIFEST, SAMPLE}
    assert artifact.metadata["nlp_pipeline"]["scores"]["accuracy"] >= 0
    ours = Recipe.from_pretrained(finished).predict(["the card 1"])
    assert Recipe.from_pretrained("wandb:me/letters/topics@production").predict(["the card 1"]) == ours
    assert call("registry", "pull", f"{TARGET}:1", "-o", tmp_path / "pulled", "--verify") == 0
    assert "12 rows predicted as in its run" in capsys.readouterr().out


def test_a_process_that_knows_the_environment_alone_pulls_the_same_files(service, finished, tmp_path, monkeypatch):
    push(finished, TARGET, verify=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "NLP_PIPELINE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "another"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = [sys.executable, "-m", "nlp_pipeline.cli", "registry", "pull", TARGET, "-o", str(tmp_path / "pulled")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pulled = {path.name: path.read_bytes() for path in (tmp_path / "pulled").iterdir()}
    assert pulled == {path.name: path.read_bytes() for path in (finished / "model").iterdir()}


def test_versions_aliases_list_show_promote_diff(service, run, capsys):
    list_show_promote_diff(TARGET, "wandb:letters", run, capsys)
    assert call("registry", "list", "wandb:me/letters/") == 0
    assert call("registry", "list", "wandb:nothing") == 0
    assert "there is no version yet; nlp-pipeline push RUN wandb:nothing/NAME" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_pushes_its_run_once(service, tiny_bert, tmp_path):
    for _ in range(2):
        finished_run(tiny_bert, tmp_path / "out", registry={"target": TARGET, "alias": "production"})
    registry, version = find(f"{TARGET}@production")
    assert (registry.numbers("topics"), version.manifest["verified_rows"]) == ([1], 12)


def test_files_that_arrive_damaged_make_no_version_and_the_repeat_completes(service, run):
    push(run, TARGET, "production", verify=False)
    (run / "model" / "README.md").write_text("another\n")
    told(service, "/_break", upload="config.json")
    with pytest.raises(RegistryError, match="W&B said"):
        push(run, TARGET, "production", verify=False)
    registry = find(TARGET)[0]
    assert (registry.numbers("topics"), registry.aliases("topics")) == ([1], {"production": 1})
    told(service, "/_break")
    assert push(run, TARGET, "production", verify=False).number == 2
    assert registry.aliases("topics") == {"production": 2}


def test_a_damaged_file_is_found_on_pull(service, finished, tmp_path):
    push(finished, TARGET, verify=False)
    told(service, "/_break", content="model.safetensors")
    for read in (lambda: pull(TARGET, tmp_path / "pulled"), lambda: resolve(TARGET)):
        with pytest.raises(RegistryError, match=r"model\.safetensors.* was damaged or changed"):
            read()
    assert not (tmp_path / "pulled").exists()


def test_a_version_that_no_push_made_is_said_and_not_listed(service, finished, tmp_path):
    import wandb

    with wandb.init(project="letters", dir=str(tmp_path), settings=quiet_settings(service)) as run:
        artifact = wandb.Artifact("others", type="model")
        artifact.add_file(str(finished / "model" / "config.json"))
        run.log_artifact(artifact)
    with pytest.raises(RegistryError, match="was not pushed by nlp-pipeline"):
        find("wandb:letters/others")
    push(finished, TARGET, verify=False)
    registry, _ = find(TARGET)
    assert registry.models() == ["topics"]
    for address, text in (
        (f"{TARGET}:2", "there is no such version; there are versions 1 to 1"),
        (f"{TARGET}@production", "there is no such alias; there are versions 1 to 1"),
        ("wandb:letters/none", "there is no such model, or the login may not read it"),
    ):
        with pytest.raises(RegistryError, match=text):
            find(address)


def test_without_a_login_or_online_it_is_refused_with_what_to_do(finished, tmp_path, monkeypatch, capsys):
    with served("wandb_server") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        assert call("push", finished, TARGET, "--no-verify") == 2
        assert "run `wandb login`, or set WANDB_API_KEY" in " ".join(capsys.readouterr().err.split())
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert call("push", finished, TARGET, "--no-verify") == 2
        assert "found WANDB_MODE=offline" in capsys.readouterr().err
        assert not names(url)


def test_what_the_service_refuses_is_a_message(service, finished, monkeypatch, capsys):
    with monkeypatch.context() as other:
        other.setenv("WANDB_API_KEY", "anotherKeyZq7" * 4)
        assert call("push", finished, TARGET, "--no-verify") == 2
        said = capsys.readouterr().err
        assert said.startswith("error: wandb:letters/topics: W&B said: AuthenticationError")
        assert "are the login (`wandb login`) and WANDB_BASE_URL right?" in " ".join(said.split())
        assert "anotherKey" not in said
    told(service, "/_break", refused="CreateArtifact")
    assert call("push", finished, TARGET, "--no-verify") == 2
    said = capsys.readouterr().err  # and nothing else
    assert said.startswith("error: wandb:letters/topics: W&B said: ")
    assert "permission denied" in said


def test_a_service_that_is_not_there_is_a_message(service, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")  # seconds; read when the client is imported
    words = [sys.executable, "-m", "nlp_pipeline.cli", "registry", "list", "wandb:letters"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: wandb:letters: W&B said: ")
    assert "WANDB_BASE_URL right?" in done.stderr


@pytest.mark.parametrize("target", ["wandb:topics", "wandb:a/b/c/d", "wandb:letters/..", "wandb:a b/topics", "wandb:"])
def test_what_names_no_model_is_refused(target):
    with pytest.raises(
        ConfigError, match=r"expected wandb:PROJECT/NAME or wandb:ENTITY/PROJECT/NAME|Names are letters"
    ):
        parse(target)


def test_a_registry_and_a_model_in_it_are_told_apart():
    assert parse_root("wandb:letters") == ("wandb:letters", None)
    assert parse_root("wandb:me/letters/") == ("wandb:me/letters", None)
    assert str(parse("wandb:me/letters/topics:3")) == "wandb:me/letters/topics:3"
    assert parse_root("wandb:letters/topics")[1] == parse("wandb:letters/topics")


def test_five_processes_get_five_versions(service, finished, tmp_path):
    number_together(TARGET, finished, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_leave_the_old_version_or_the_whole_new_one(service, run, tmp_path):
    survive_kills(TARGET, run, tmp_path / "read", kills=20, service=service)
