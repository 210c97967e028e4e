"""What the launcher asks for: settings files, and wishes that can't be met."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from nlp_pipeline import ConfigError
from nlp_pipeline.devices import Sharding, launched_sharding, make_accelerator

CONFIGS = sorted((Path(__file__).parents[1] / "accelerate_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_launch_settings_are_read_and_say_how_to_use_them(path):
    config = load_config_from_file(str(path))
    assert config.num_processes >= 1
    assert f"--config_file accelerate_configs/{path.name}" in path.read_text()
    assert (config.distributed_type == "FSDP") == ("fsdp" in path.stem)
    if config.fsdp_config:
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_cpu_ram_efficient_loading"] is False


def test_sharding_needs_fsdp_and_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched_sharding() is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert launched_sharding() == Sharding(True)
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    assert launched_sharding() == Sharding(False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched_sharding() is None


def test_deepspeed_is_refused_with_the_way_to_go(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r"DeepSpeed, which is not supported.*accelerate_configs/fsdp.yaml"):
        make_accelerator("fp32")


def test_everything_that_fsdp_cannot_do_is_said_at_once(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    for name in ("OFFLOAD_PARAMS", "CPU_RAM_EFFICIENT_LOADING", "ACTIVATION_CHECKPOINTING"):
        monkeypatch.setenv(f"FSDP_{name}", "true")
    with pytest.raises(ConfigError) as error:
        make_accelerator("fp16")
    for part in ("fsdp_version 1, expected 2", "offload", "efficient", "training.gradient_checkpointing", "fp16"):
        assert part in str(error.value)


def test_compiled_layers_are_refused_in_shards(tiny_bert, tmp_path, monkeypatch):
    from nlp_pipeline import TextClassification

    rows = [{"text": "the card", "label": "ab"[i % 2]} for i in range(4)]
    recipe = TextClassification(model=tiny_bert, train=rows, compile=True, precision="fp32", dir=str(tmp_path))
    recipe.tokenize()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"training.compile.*FSDP"):
        recipe.fit()
