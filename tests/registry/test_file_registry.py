"""A registry in a folder: versions, aliases, what is checked, what is refused."""

import json
import os

import pytest
from commands import call
from registry.runs import ROWS, finished_run

from nlp_pipeline import ConfigError, Recipe
from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.address import parse
from nlp_pipeline.registry.pulling import find, pull, resolve
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry.versions import confined, manifest_problems, open_registry


@pytest.fixture
def target(tmp_path):
    return f"file:{tmp_path}/models/topics"


def blobs(tmp_path):
    return sorted(path for path in (tmp_path / "models" / "blobs").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_push_is_checked_in_a_clean_process_and_its_version_predicts(finished, target, tmp_path, capsys):
    assert call("push", finished, target, "--alias", "production") == 0
    assert "topics:1 @production, 12 rows checked in a clean process" in capsys.readouterr().out
    manifest = find(target)[1].manifest
    assert manifest["verified_rows"] == 12
    results = json.loads((finished / "results.json").read_text())
    assert manifest["evaluation"]["scores"] == results["scores"]
    assert manifest["evaluation"]["intervals"] == results["intervals"]
    assert manifest["data"]["train"]["rows"] == 12
    assert len(manifest["parent"]["sha256"]) == 64
    ours = Recipe.from_pretrained(finished).predict(["the card 1"])
    assert Recipe.from_pretrained(f"{target}@production").predict(["the card 1"]) == ours
    assert call("registry", "pull", f"{target}:1", "-o", tmp_path / "pulled", "--verify") == 0
    assert "12 rows predicted as in its run" in capsys.readouterr().out
    assert (tmp_path / "pulled" / "model.safetensors").read_bytes() == (
        finished / "model" / "model.safetensors"
    ).read_bytes()


def test_other_predictions_than_the_runs_are_refused_with_the_rows(run, target, tmp_path):
    lines = [json.loads(line) for line in (run / "sample.jsonl").read_text().splitlines()]
    lines[3]["expected"]["prediction"] = "neither"
    (run / "sample.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RegistryError, match=r"row 4 of the sample: the run predicted .*neither"):
        push(run, target)
    assert not (tmp_path / "models").exists()


def test_weights_that_were_not_evaluated_are_refused(run, target):
    with open(run / "model" / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(RegistryError, match="not as the run evaluated it"):
        push(run, target)


def test_equal_files_are_stored_once_and_versions_differ_by_what_changed(run, target, tmp_path, capsys):
    push(run, target, verify=False)
    once = blobs(tmp_path)
    (run / "model" / "README.md").write_text("another card\n")
    push(run, target, "staging", verify=False)
    assert len(blobs(tmp_path)) == len(once) + 1
    capsys.readouterr()
    assert call("registry", "diff", f"{target}:1", f"{target}@staging", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == {"README.md": "changed"}
    assert found["scores"] == found["lineage"] == {}


def test_promote_list_and_show(run, target, tmp_path, capsys):
    for _ in range(3):
        push(run, target, verify=False)
    assert call("registry", "promote", f"{target}:2") == 0
    assert call("registry", "promote", f"{target}@production", "--alias", "staging") == 0
    assert call("registry", "promote", f"{target}:3") == 0
    assert "is version 3, was 2" in capsys.readouterr().out
    call("registry", "list", f"file:{tmp_path}/models", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["version"], entry["aliases"]) for entry in listed] == [
        (1, []),
        (2, ["staging"]),
        (3, ["production"]),
    ]
    assert call("registry", "list", target) == call("registry", "show", f"{target}@staging") == 0
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed
    assert "accuracy" in printed


def test_a_flipped_byte_is_found_on_pull_and_mended_by_the_next_push(run, target, tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_PIPELINE_CACHE", str(tmp_path / "cache"))  # the same model lies in the session's
    push(run, target, verify=False)
    blob = max(blobs(tmp_path), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    for read in (lambda: pull(target, tmp_path / "pulled"), lambda: resolve(target)):
        with pytest.raises(RegistryError, match="was damaged or changed"):
            read()
    assert not list(tmp_path.glob("*pulled*"))
    push(run, target, verify=False)
    pull(f"{target}:1", tmp_path / "pulled")


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a\\..\\out", "", "./out", "a//b", "C:out", ".."])
def test_names_in_a_manifest_never_lead_out(name, run, target, tmp_path):
    version = push(run, target, verify=False)
    file = tmp_path / "models" / "models" / "topics" / "versions" / "1.json"
    manifest = version.manifest
    manifest["files"][name] = manifest["files"]["config.json"]
    file.write_text(json.dumps(manifest))
    assert not confined(name)
    with pytest.raises(RegistryError, match="leads out of the folder"):
        pull(target, tmp_path / "pulled")
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize("bad", [None, [], {}, {"format": 1, "files": {"a": {"sha256": "../../x", "size": 1}}}])
def test_a_manifest_of_any_form_ends_in_problems(bad):
    assert manifest_problems(bad)


def test_links_are_neither_pushed_nor_read_nor_written_through(run, target, tmp_path):
    (run / "model" / "link.txt").symlink_to("/etc/hostname")
    with pytest.raises(RegistryError, match="symbolic link"):
        push(run, target, verify=False)
    (run / "model" / "link.txt").unlink()
    push(run, target, verify=False)
    blob = blobs(tmp_path)[0]
    content = blob.read_bytes()
    blob.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    blob.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match="links in a registry are not followed"):
        pull(target, tmp_path / "pulled")
    aliases = tmp_path / "models" / "models" / "topics" / "aliases"
    (tmp_path / "outside").mkdir()
    aliases.symlink_to(tmp_path / "outside")
    with pytest.raises(RegistryError, match="leads out of the registry"):
        push(run, target, "production", verify=False)
    assert not list((tmp_path / "outside").iterdir())


def test_prune_takes_what_no_version_names_and_leaves_the_rest(run, target, tmp_path):
    push(run, target, verify=False)
    registry = open_registry(parse(target).root)
    before = blobs(tmp_path)
    (tmp_path / "left").write_text("left by a killed push")
    import hashlib

    registry.store.add_blob(tmp_path / "left", hashlib.sha256(b"left by a killed push").hexdigest())
    (tmp_path / "models" / ".writing" / "half").write_text("half")
    assert registry.prune()["blobs"] == 0  # young: its push may be running
    assert registry.prune(older_than=0) == {"blobs": 1, "bytes": 21, "files": 1}
    assert blobs(tmp_path) == before
    pull(target, tmp_path / "pulled")


@pytest.mark.slow
def test_a_recipe_pushes_once_and_a_push_that_fails_costs_nothing(tiny_bert, tmp_path, capsys):
    registry = {"target": f"file:{tmp_path}/models/topics", "alias": "staging"}
    finished_run(tiny_bert, tmp_path / "run", registry=registry)
    finished_run(tiny_bert, tmp_path / "run", registry=registry)
    assert [version.number for version in [find(f"{registry['target']}@staging")[1]]] == [1]
    assert open_registry(f"{tmp_path}/models").numbers("topics") == [1]
    (tmp_path / "file").write_text("no folder")
    finished_run(tiny_bert, tmp_path / "other", registry=f"file:{tmp_path}/file/topics")
    said = capsys.readouterr().out
    assert "the model was not pushed" in said
    assert f"nlp-pipeline push {tmp_path}/other file:{tmp_path}/file/topics" in said
    assert (tmp_path / "other" / "results.json").exists()


@pytest.mark.parametrize(
    "text", ["models/topics", "file:models/..", "file:models/a b", "wandb:topics", "file:x/n@a@b", "file:x/n:0"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="found"):
        parse(text)


def test_addresses_hide_passwords():
    assert "secretword" not in str(parse("s3://me:secretword@bucket/models/topics:3"))


def test_secrets_of_the_environment_are_in_no_file_of_a_push(tiny_bert, target, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canaryHubTokenZq7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canaryCloudKeyZq7")
    run = finished_run(tiny_bert, tmp_path / "hf_run", name="x hf_canaryHubTokenZq7 canaryCloudKeyZq7")
    push(run, target, "production")
    files = [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert b"canary" not in path.read_bytes(), path


def test_rows_of_the_sample_carry_no_labels(finished):
    lines = [json.loads(line) for line in (finished / "sample.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [{"text": row["text"]} for row in ROWS]
