"""A pushed model as MLflow knows it: the `MLmodel` file and what it names, around the files of a run.

MLflow's own `mlflow.transformers.save_model` loads and rewrites a model, and its way for a folder that is saved already
fails on transformers 5.23; so its file is written here, and read by MLflow (`mlflow.transformers.load_model`, and
`mlflow.pyfunc.load_model` where rows are single texts).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.pyfunc import add_to_model
from mlflow.types import ColSpec, Schema, TensorSpec

MODEL = "model"
"""Where the files of the run lie, as MLflow's flavor of transformers has it."""
CODE = "mlflow.transformers"
PIPELINES = {
    "text-classification": "TextClassificationPipeline",
    "token-classification": "TokenClassificationPipeline",
    "fill-mask": "FillMaskPipeline",
    "text-generation": "TextGenerationPipeline",
}
"""Tasks of the Hub that transformers 5 and MLflow's flavor both have pipelines for."""
EXAMPLES = 2


def write_flavor(
    folder: Path, manifest: Mapping[str, Any], files: Mapping[str, Path], rows: list[dict[str, Any]]
) -> None:
    """Write what MLflow wants beside a model's files; those themselves are not copied.

    Args:
        folder: an empty folder, the root of the MLflow model.
        files: the model's files by name.
        rows: rows of the sample, as `Recipe.predict` takes them.
    """
    config = json.loads(files["config.json"].read_text(encoding="utf-8"))
    settings = json.loads(files["nlp_pipeline.json"].read_text(encoding="utf-8"))
    texts = [next(iter(row.values())) for row in rows[:EXAMPLES] if len(row) == 1]
    single = len(texts) == len(rows[:EXAMPLES]) > 0 and all(isinstance(text, str) for text in texts)
    tag = pipeline_tag(settings["config"]["task"])
    model = Model(metadata={"nlp_pipeline": {key: manifest.get(key) for key in ("task", "run", "evaluation")}})
    _save_example(model, texts if single else rows[:EXAMPLES], str(folder))
    architecture = (config.get("architectures") or [""])[0]
    # A class that is not transformers' own would have MLflow trust the code that a model brings.
    if tag in PIPELINES and architecture in dir(transformers) and "auto_map" not in config:
        _add_transformers(model, folder, files, tag, architecture)
        if single:
            model.signature = _signature(tag)
            add_to_model(model, loader_module=CODE, python_env="python_env.yaml")
    else:
        model.add_flavor("nlp_pipeline", model=MODEL, task=settings["config"]["task"])
    _write_environment(folder, manifest)
    model.save(str(folder / "MLmodel"))


def pipeline_tag(task: str) -> str:
    """The Hub's name of a task."""
    from ..tasks import TASKS, task_class

    return (task_class(task).pipeline_tag if task in TASKS else None) or task


def _add_transformers(model: Model, folder: Path, files: Mapping[str, Path], tag: str, architecture: str) -> None:
    """What `mlflow.transformers.build_flavor_config_from_local_checkpoint` would say."""
    model.add_flavor(
        "transformers",
        transformers_version=transformers.__version__,
        code=None,
        task=tag,
        instance_type=PIPELINES[tag],
        pipeline_model_type=architecture,
        source_model_name=MODEL,
        model_binary=MODEL,
        tokenizer_type="AutoTokenizer",
        components=["tokenizer"],
    )
    tokenizer = folder / "components" / "tokenizer"
    for name, path in files.items():
        if not name.endswith((".safetensors", ".index.json", ".md")):
            (tokenizer / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tokenizer / name)


def _signature(tag: str) -> ModelSignature:
    """Texts in; labels and scores, or texts, out, as MLflow's wrapper of pipelines gives them."""
    outputs: list[ColSpec | TensorSpec] = [ColSpec("string")]
    if tag == "text-classification":
        outputs = [ColSpec("string", name="label"), ColSpec("double", name="score")]
    return ModelSignature(inputs=Schema([ColSpec("string")]), outputs=Schema(outputs))


def _write_environment(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The packages that it was trained with, as far as a pipeline needs them."""
    packages = manifest.get("packages") or {}
    wanted = [f"{name}=={packages[name].partition('+')[0]}" for name in ("torch", "transformers") if name in packages]
    (folder / "requirements.txt").write_text("\n".join(["mlflow", *wanted]) + "\n", encoding="utf-8")
    python = {"python": str(manifest.get("python")), "build_dependencies": ["pip"]}
    text = json.dumps(python | {"dependencies": ["-r requirements.txt"]}, indent=2)  # JSON is YAML
    (folder / "python_env.yaml").write_text(text + "\n", encoding="utf-8")
