"""A registry in a Hub, asked by the real client over HTTP: versions, aliases, what is checked, what is refused."""

import json
import subprocess
import sys

import pytest
from commands import call
from registry.hub_server import TOKEN
from registry.runs import finished_run
from registry.services import hub_running, list_show_promote_diff, number_together, survive_kills, told

from nlp_pipeline import ConfigError, Recipe
from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.hub import MANIFEST
from nlp_pipeline.registry.pulling import find, pull, resolve
from nlp_pipeline.registry.pushing import push

TARGET = "hub:me/topics"
# huggingface_hub 2.4 sends files by a word that its HTTP client no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("NLP_PIPELINE_CACHE", str(tmp_path / "cache"))
    with hub_running(monkeypatch) as url:
        yield url


def log(hub):
    return told(hub, "/_log")


def broken(hub, **what):
    told(hub, "/_break", **what)


def uploads(hub):
    return [path for method, path, _ in log(hub) if method == "PUT"]


def api():
    from huggingface_hub import HfApi

    return HfApi()


@pytest.mark.slow
def test_a_push_is_a_private_commit_with_a_tag_and_predicts(hub, finished, tmp_path, capsys):
    assert call("push", finished, TARGET, "--alias", "production") == 0
    assert "hub:me/topics:1 @production, 12 rows checked in a clean process" in capsys.readouterr().out
    assert api().model_info("me/topics").private
    refs = api().list_repo_refs("me/topics")
    main, production = ({b.name: b.target_commit for b in refs.branches}[name] for name in ("main", "production"))
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", main)]
    assert production == main
    ours = Recipe.from_pretrained(finished).predict(["the card 1"])
    assert Recipe.from_pretrained(f"{TARGET}@production").predict(["the card 1"]) == ours
    assert call("registry", "pull", f"{TARGET}:1", "-o", tmp_path / "pulled", "--verify") == 0
    assert "12 rows predicted as in its run" in capsys.readouterr().out
    files = {path.name for path in (finished / "model").iterdir()}
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == files
    weights = (finished / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "pulled" / "model.safetensors").read_bytes() == weights


def test_versions_aliases_list_show_promote_diff(hub, run, capsys):
    list_show_promote_diff(TARGET, "hub:me", run, capsys)
    assert len(uploads(hub)) == 1  # the weights are the same in all three
    assert (resolve(f"{TARGET}:2") / "README.md").read_text().endswith("second\n")


def test_a_version_is_the_whole_of_its_files(hub, run):
    push(run, TARGET, verify=False)
    (run / "model" / "README.md").unlink()
    push(run, TARGET, verify=False)
    assert "README.md" not in {file.path for file in api().list_repo_tree("me/topics", revision="v2", recursive=True)}
    assert "README.md" in {file.path for file in api().list_repo_tree("me/topics", revision="v1", recursive=True)}


def test_hashes_that_differ_there_get_no_tag_and_the_repeat_completes(hub, run):
    push(run, TARGET, "production", verify=False)
    (run / "model" / "README.md").write_text("another\n")
    broken(hub, hash=2)  # the first listing is that before the commit
    with pytest.raises(RegistryError, match=r"config\.json has another hash there; it got no tag"):
        push(run, TARGET, "production", verify=False)
    registry = find(TARGET)[0]
    assert registry.numbers("topics") == [1]
    assert registry.aliases("topics") == {"production": 1}
    assert push(run, TARGET, "production", verify=False).number == 2
    assert len([path for _, path, _ in log(hub) if "/commit/" in path]) == 2  # the commit that was there got its tag
    assert len(uploads(hub)) == 1


def test_a_flipped_byte_is_found_on_pull(hub, finished, tmp_path):
    push(finished, TARGET, verify=False)
    broken(hub, content="model.safetensors")
    for read in (lambda: pull(TARGET, tmp_path / "pulled"), lambda: resolve(TARGET)):
        with pytest.raises(RegistryError, match="was damaged or changed"):
            read()
    assert not (tmp_path / "pulled").exists()


def test_a_repository_that_no_push_made_is_left_alone(hub, finished):
    api().create_repo("me/topics")
    api().upload_file(path_or_fileobj=b"x", path_in_repo="pytorch_model.bin", repo_id="me/topics")
    with pytest.raises(ConfigError, match=r"files that no push made \(pytorch_model.bin"):
        push(finished, TARGET, verify=False)


def test_a_card_that_the_hub_would_refuse_is_found_before_anything_is_sent(hub, run):
    (run / "model" / "README.md").write_text("---\nmodel-index:\n- name: x\n  results: 3\n---\n")
    with pytest.raises(RegistryError, match="metadata that the Hub doesn't take"):
        push(run, TARGET, verify=False)
    assert not log(hub)


def test_what_the_hub_refuses_is_a_message(hub, finished, monkeypatch, capsys):
    assert call("predict", TARGET, finished / "sample.jsonl") == 2
    assert "there is no such model, or the token at hand may not read it" in capsys.readouterr().err
    push(finished, TARGET, verify=False)
    assert call("predict", f"{TARGET}:2", finished / "sample.jsonl") == 2
    assert "there is no such version; there are versions 1 to 1" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_anotherTokenZq7")
    assert call("push", finished, TARGET, "--no-verify") == 2
    said = capsys.readouterr().err
    assert "is the token right (HF_TOKEN, or `hf auth login`)" in said
    assert "anotherToken" not in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert call("push", finished, TARGET, "--no-verify") == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert call("push", finished, TARGET, "--no-verify") == 2
    assert "error: hub:me/topics: the Hub said" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["hub:topics", "hub:me/you/topics", "hub:me/..", "hub:me/a b", "hub:"])
def test_what_names_no_repository_is_refused(finished, target):
    with pytest.raises(ConfigError, match="expected"):
        push(finished, target)


@pytest.mark.slow
def test_the_token_is_in_no_file_and_no_commit(hub, tiny_bert, tmp_path):
    run = finished_run(
        tiny_bert, tmp_path / "hf_run", name=f"x {TOKEN}", registry={"target": TARGET, "alias": "production"}
    )
    pull(f"{TARGET}@production", tmp_path / "pulled")
    assert MANIFEST in {file.path for file in api().list_repo_tree("me/topics", recursive=True)}
    assert all(TOKEN not in commit.title for commit in api().list_repo_commits("me/topics"))
    for path in [*run.rglob("*"), *tmp_path.rglob("*")]:
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_the_command_alone_finds_the_hub_by_its_environment(hub, finished):
    words = [sys.executable, "-m", "nlp_pipeline.cli", "push", str(finished), TARGET, "--no-verify", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1


def test_five_processes_get_five_versions(hub, finished, tmp_path):
    number_together(TARGET, finished, tmp_path, 5)  # a commit is made on top of the one before: the others try again


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_leave_the_old_version_or_the_whole_new_one(hub, run, tmp_path):
    survive_kills(TARGET, run, tmp_path / "read")
    sent = uploads(hub)
    assert len(sent) == len(set(sent)) == 102  # what had arrived was not sent again
