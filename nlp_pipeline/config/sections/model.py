"""The model that is trained, and the one it may learn from."""

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Section


class ModelConfig(Section):
    """Which pretrained model and tokenizer to start from."""

    name: str
    """A local folder, a Hub name (`user/name`), or `package:python_package/folder` for weights inside a package."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    tokenizer: str | None = None
    """Where the tokenizer is, if not with the model."""
    architecture: str | dict[str, Any] | None = None
    """A new model to train from scratch, `name` being where the tokenizer is: transformers' settings with `model_type`,
    or a `config.json`, e.g. `{model_type: llama, hidden_size: 256, num_hidden_layers: 4}`."""
    layers: list[Annotated[int, Field(ge=0)]] | int | None = None
    """Keep only these layers of the pretrained model, counted from 0, or so many of them, evenly spread: a smaller
    student for distillation (Sanh et al. 2019, arXiv:1910.01108)."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Expected SHA-256 of the weight file `model.safetensors`; another sum is refused."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model or its tokenizer. Only for code that was read: it may do anything."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the model's own config, e.g. `{hidden_dropout_prob: 0.2}`."""
    quantization: Literal["4bit"] | None = None
    """`4bit`: the base model in 4 bits under `training.lora` (QLoRA), through bitsandbytes on CUDA. The saved model is
    whole, the adapters merged into the weights as they were before."""


class TeacherConfig(Section):
    """A finished model that the trained one learns from, beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

    name: str
    """A run directory, or the folder of a model with the same labels, or of one that makes vectors. What it says of the
    training rows is computed once, before training, and kept in the cache."""
    temperature: float = Field(2.0, gt=0)
    """Logits of both are divided by this before the softmax: the higher, the more small probabilities count."""
    weight: float = Field(0.5, ge=0, le=1)
    """Share of the teacher's answers in the loss, that of the labels being the rest."""
    hidden_states: float = Field(0.0, ge=0)
    """Weight of the distance (1 - cosine) between both models' states after each of the student's layers, over and
    above the loss (Sanh et al. 2019, arXiv:1910.01108; layers paired as by Jiao et al. 2019, arXiv:1909.10351). The
    teacher then reads every batch beside the student: kept, its states would take gigabytes.
    Nothing is compiled then."""
