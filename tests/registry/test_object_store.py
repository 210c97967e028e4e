"""The same layout in what fsspec reaches: here memory, and S3 where s3fs and moto are installed."""

import uuid

import pytest
from registry.runs import finished_run

from nlp_pipeline.errors import RegistryError
from nlp_pipeline.registry.pulling import find, pull
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry.versions import open_registry


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    return finished_run(tiny_bert, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(params=["memory", "s3"])
def root(request, monkeypatch):
    if request.param == "memory":
        yield f"memory://models-{uuid.uuid4().hex}"
        return
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything-at-all")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"models-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}/models"
    server.stop()


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
