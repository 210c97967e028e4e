"""Safetensors files as the library itself reads them, whatever the disk can do."""

import errno
import os
from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from nlp_pipeline.training import tensor_file
from nlp_pipeline.training.tensor_file import write_tensors

TYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8,
    torch.bool,
]  # fmt: skip
tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 40), max_size=3)),
    max_size=6,
)


def made(kinds):
    return {name: (torch.rand(shape) * 9).to(kind) for name, (kind, shape) in kinds.items()}


def check(path, wanted):
    assert write_tensors(path, wanted) == sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@settings(max_examples=40)
@given(kinds=tensors, chunk=st.sampled_from([4096, 8192]))
def test_the_library_reads_the_same(tmp_path_factory, kinds, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_file, "CHUNK", chunk)
        check(tmp_path_factory.mktemp("written") / "model.safetensors", made(kinds))


def test_large_and_strided_ones(tmp_path):
    check(tmp_path / "x.safetensors", {"a": torch.rand(1500, 1200).T, "b": torch.tensor(3.0), "c": torch.rand(3)[1:]})


@pytest.mark.parametrize("fails", ["open", "write", "short write"])
def test_where_the_page_cache_cannot_be_passed_by(tmp_path, monkeypatch, fails):
    real_open, real_write, direct = os.open, os.write, getattr(os, "O_DIRECT", 0)
    if not direct:
        pytest.skip("this system has no such writes")
    state = {"direct": False}

    def fake_open(path, flags, *mode):
        if flags & direct and fails == "open":
            raise OSError(errno.EINVAL, "no such flag here")
        state["direct"] = bool(flags & direct)
        return real_open(path, flags & ~direct, *mode)

    def fake_write(file, data):
        if state["direct"] and fails == "write":
            state["direct"] = False
            raise OSError(errno.EINVAL, "not like that")
        return real_write(file, data[: len(data) // 3 or 1] if fails == "short write" else data)

    monkeypatch.setattr(os, "open", fake_open)
    monkeypatch.setattr(os, "write", fake_write)
    check(tmp_path / "x.safetensors", {"a": torch.rand(1500, 1200), "b": torch.rand(7)})
