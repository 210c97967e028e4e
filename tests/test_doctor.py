import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nlp_pipeline import doctor
from nlp_pipeline.cli import main

REAL_VERSION = metadata.version


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def fake_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Other versions of some packages; None for a package that isn't installed."""

    def version(name: str) -> str:
        found = versions[name] if name in versions else REAL_VERSION(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)


def test_training_can_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report() == 0
    out = printed(capsys)
    assert re.search(rf"ok +torch +{re.escape(REAL_VERSION('torch'))} \(needs [\d.]+ or newer\)", out)
    for what in ("CPU ", "CUDA ", "MPS ", "bf16 ", "threads", "free", "HF_HUB_OFFLINE", "accelerate"):
        assert what in out
    assert out.endswith("Training can run here.\n")


def test_the_command_exits_with_the_reports_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 0
    assert "Packages" in printed(capsys)


def test_a_missing_package_and_an_old_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_versions(monkeypatch, seqeval=None, transformers="4.57.1")
    assert doctor.report() == 1
    out = printed(capsys)
    assert re.search(r"missing +seqeval", out)
    assert re.search(r"old +transformers +4\.57\.1", out)
    wanted = next(line for line in out.splitlines() if "pip install" in line and "seqeval" in line)
    command = shlex.split(wanted.partition("pip install ")[2])
    assert [item.partition(">=")[0] for item in command] == ["seqeval", "transformers"]


def test_a_missing_extra_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_versions(monkeypatch, peft=None)
    assert doctor.report() == 0
    assert "pip install 'nlp-pipeline[lora]'" in printed(capsys)


def test_an_old_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PYTHON", (4, 0))
    assert doctor.report() == 1
    assert "is too old: install 4.0 or newer" in printed(capsys)


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.report() == 1
    out = printed(capsys)
    assert "torch can't be imported" in out
    assert "CPU " in out  # and the rest is still said
    assert "HF_HUB_OFFLINE" in out


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert doctor.report() == 1
    assert "nlp-pipeline is not installed" in printed(capsys)


def test_cuda_devices_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    device = SimpleNamespace(name="NVIDIA H200", total_memory=139 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert doctor.report() == 0
    out = printed(capsys)
    assert re.search(r"CUDA device 0 +NVIDIA H200, 139\.0 GiB", out)
    assert "CUDA device 1" in out


def test_the_cache_its_size_and_how_to_delete_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NLP_PIPELINE_CACHE", str(tmp_path / "my cache"))
    doctor.report()
    assert "is not there yet" in printed(capsys)
    folder = tmp_path / "my cache" / "tokenized" / "key"
    folder.mkdir(parents=True)
    (folder / "rows.arrow").write_bytes(bytes(3 * 2**20))
    doctor.report()
    assert f"3 MiB; to delete it: rm -r {shlex.quote(str(folder.parent))}" in printed(capsys)


def test_offline_and_the_accelerate_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    doctor.report()
    out = printed(capsys)
    assert re.search(r"HF_HUB_OFFLINE +set:", out)
    assert "no config;" in out
    (tmp_path / "accelerate").mkdir()
    config = tmp_path / "accelerate" / "default_config.yaml"
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 4\nmain_process_ip: 10.1.2.3\n")
    doctor.report()
    out = printed(capsys)
    assert "distributed_type=MULTI_GPU, num_processes=4" in out
    assert "10.1.2.3" not in out
    config.write_text("a: [")
    doctor.report()
    assert "can't be read" in printed(capsys)


def test_no_environment_variable_leaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "not-to-be-seen")
    doctor.report()
    assert "not-to-be-seen" not in printed(capsys)


@pytest.mark.parametrize(
    ("older", "newer"), [("2.9.1", "2.11"), ("5.16.3", "5.17"), ("0.4.5", "0.4.6"), ("1.9", "1.10.0+cpu")]
)
def test_releases_are_compared_by_number(older: str, newer: str) -> None:
    assert doctor.numbers(older) < doctor.numbers(newer)
    assert doctor.numbers("2.0") == doctor.numbers("2.0.0+cu128")
