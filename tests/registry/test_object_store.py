"""The same layout in what fsspec reaches: here memory, and an S3 of the test's own."""

import shutil
import uuid

import pytest
from registry.services import number_together, s3_running, survive_kills

from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.pulling import find, pull
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry.versions import open_registry


@pytest.fixture(params=["memory", "s3"])
def root(request, monkeypatch):
    if request.param == "memory":
        yield f"memory://models-{uuid.uuid4().hex}"
        return
    with s3_running(monkeypatch) as bucket:
        yield f"{bucket}/models"


def test_push_alias_pull_and_prune(root, finished, tmp_path):
    target = f"{root}/topics"
    assert push(finished, target, verify=False).number == 1
    assert push(finished, target, "production", verify=False).number == 2
    registry = open_registry(root)
    assert registry.models() == ["topics"]
    assert registry.aliases("topics") == {"production": 2}
    assert registry.prune(older_than=0)["blobs"] == 0
    pull(f"{target}@production", tmp_path / "pulled", verify=True)
    weights = (finished / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "pulled" / "model.safetensors").read_bytes() == weights


def test_a_number_that_is_taken_is_not_taken_again(root, finished):
    store = open_registry(root).store
    assert store.write_new("models/topics/versions/1.json", b"{}")
    assert not store.write_new("models/topics/versions/1.json", b"other")
    assert store.read("models/topics/versions/1.json") == b"{}"


def test_a_damaged_object_is_found(root, finished, tmp_path):
    push(finished, f"{root}/topics", verify=False)
    version = find(f"{root}/topics")[1]
    store = open_registry(root).store
    sha256 = version.files["model.safetensors"]["sha256"]
    store.replace(f"blobs/{sha256[:2]}/{sha256}", b"other bytes")
    with pytest.raises(RegistryError, match="was damaged or changed"):
        pull(f"{root}/topics", tmp_path / "pulled")


@pytest.mark.slow
def test_twenty_processes_get_twenty_versions(finished, tmp_path, monkeypatch):
    with s3_running(monkeypatch) as bucket:
        number_together(f"{bucket}/models/topics", finished, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_leave_the_old_version_or_the_whole_new_one(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    with s3_running(monkeypatch) as bucket:
        survive_kills(f"{bucket}/models/topics", run, tmp_path / "read")
