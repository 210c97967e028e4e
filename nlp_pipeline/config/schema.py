"""The schema of a recipe file. Every default of the project stands here and nowhere else.

All sections are frozen and refuse unknown keys. This module imports neither torch nor transformers.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from ..secrets import public
from ..tracking.trackers import not_gone

Sources = str | list[str]
LONGEST_NAME = 200
"""Bytes; file systems end at 255, and `-2` and the like come after a name."""


class Section(BaseModel):
    """A part of a recipe: immutable, unknown keys refused, field docstrings shown in the JSON Schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def __repr_args__(self) -> Any:
        """Without passwords: a traceback or a notebook may show the settings."""
        return [(name, public(value)) for name, value in super().__repr_args__()]


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
    """A run directory, or the folder of a model with the same labels. What it says of the training rows is computed
    once, before training, and kept in the cache."""
    temperature: float = Field(2.0, gt=0)
    """Logits of both are divided by this before the softmax: the higher, the more small probabilities count."""
    weight: float = Field(0.5, ge=0, le=1)
    """Share of the teacher's answers in the loss, that of the labels being the rest."""


class DataConfig(Section):
    """Where the rows come from and how they are split."""

    train: Sources | None = None
    """Training rows: a file (a `.txt` holds texts with a blank line between), a glob, a list of them, a `save_to_disk`
    folder, `hub:user/name`, a SQLAlchemy URL (with `query`), or `sample:messages`. One split of a Hub data set:
    `hub:user/name#split`. `${NAME}` is read from the environment, here and in other places, names and queries: for
    passwords, `postgresql://me:${DB_PASSWORD}@…`."""
    validation: Sources | None = None
    """Validation rows; used to choose the best checkpoint and to stop early."""
    test: Sources | None = None
    """Test rows; scored once, at the end."""
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "txt", "disk", "hub", "sql"] = "auto"
    """File format; `auto` goes by the file's ending."""
    encoding: str = "utf-8"
    """Text encoding of CSV, TSV and JSON files."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """Column delimiter of CSV files, if it isn't a comma (or a tab in TSV)."""
    query: str | dict[Literal["train", "validation", "test"], str] | None = None
    """SQL query: one for `train`, or one a split."""
    hub_config: str | None = None
    """Configuration (subset) of a Hub data set."""
    hub_revision: str | None = None
    """Revision of a Hub data set."""
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    """The task's column names mapped to the file's, e.g. `{text: body, label: intent}`. A list of columns for a text
    joins them with a line break; for several labels a row it names columns of 0 and 1."""
    id_column: str | None = None
    """Column whose value names a row in predictions and messages; by default `id` if there is one, else row numbers."""
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training rows carved off for validation (seeded, stratified where the task can)."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training rows carved off for the test set."""
    split_seed: int = Field(13, ge=0, lt=2**32)
    """Seed of the carve; apart from `training.seed`, so that seeds can be compared on the same split."""
    max_train_rows: int | None = Field(None, ge=1)
    """Use only so many training rows (drawn with `split_seed`): for a quick try."""
    missing_labels: Literal["error", "drop"] = "error"
    """What to do with rows that lack a label or a text."""


Check = Literal[
    "empty_text",
    "placeholder",
    "damaged_characters",
    "blank_tokens",
    "over_long",
    "unknown_characters",
    "script",
    "label_spelling",
    "rare_label",
    "imbalance",
    "unseen_label",
    "exact_duplicates",
    "near_duplicates",
    "conflicting_labels",
    "shared_rows",
    "near_shared_rows",
    "answer_span",
]


class AuditConfig(Section):
    """What is looked for in the rows before the model loads. Errors stop a run, warnings are shown."""

    enabled: bool = True
    """Look at the rows before training."""
    near_duplicate_threshold: float = Field(0.8, ge=0.3, le=1)
    """Texts count as nearly the same from this Jaccard index of their character 4-grams on."""
    ignore: list[Check] = Field(default_factory=list)
    """Checks to leave out."""


class TokenizationConfig(Section):
    """How text becomes token ids, and where the result is kept."""

    max_length: int | None = Field(None, ge=4)
    """Longest sequence in tokens, special tokens included; by default the model's own limit, at most 512."""
    cache: bool = True
    """Keep tokenized rows and use them again."""
    cache_dir: str | None = None
    """Where tokenized rows are kept; by default `$NLP_PIPELINE_CACHE`, else `~/.cache/nlp-pipeline`."""


class BatchConfig(Section):
    """How many rows make one optimizer step. The micro-batch and the accumulation follow from it and the devices."""

    size: int = Field(32, ge=1)
    """Rows per optimizer step over all devices together."""
    tokens: int | None = Field(None, ge=1)
    """Tokens per optimizer step over all devices, in place of `size`: for rows of very different length. The loss is
    the mean over all targets of the step either way."""
    micro: int | None = Field(None, ge=1)
    """Most rows per device in one forward pass; by default as many as the step needs, bounded by token count."""
    evaluation: int = Field(64, ge=1)
    """Rows per device in one forward pass at evaluation and prediction."""
    window: int = Field(8192, ge=1)
    """Rows that evaluation and prediction hold at once: read, sorted by length, run, written before the next ones."""
    sampling: Literal["auto", "random", "length_grouped"] = "auto"
    """`random` shuffles plainly; `length_grouped` puts rows of like length in a batch: less padding. `auto` is random
    where the model runs without padding, else grouped."""
    padding_free: bool | Literal["auto"] = "auto"
    """Run the model on real tokens only: the same result for less. `auto` where the architecture has such a form."""


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) in place of full fine-tuning, through peft."""

    r: int = Field(8, ge=1)
    """Rank."""
    alpha: int = Field(16, ge=1)
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapter."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter."""


class EarlyStopping(Section):
    """Stop when the best metric has not improved for a while."""

    patience: int = Field(3, ge=1)
    """Evaluations without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """Smallest change that counts as an improvement."""


class TrainingConfig(Section):
    """The optimizer, its schedule, and when to stop."""

    epochs: float = Field(3, gt=0)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps; wins over `epochs`."""
    learning_rate: float = Field(5e-5, gt=0, lt=1)
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """Course of the learning rate after warm-up."""
    warmup: float = Field(0.0, ge=0)
    """Warm-up: below 1 a share of all steps, from 1 on a number of steps."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay; never on biases and norm weights."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's decay rates of the moment estimates."""
    epsilon: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null turns clipping off."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target's mass spread over all classes (classification only)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    freeze: list[str] = Field(default_factory=list)
    """Parts that stay as they are: `embeddings`, `encoder`, `layers:N` (the lowest N), or a glob over parameter
    names such as `*.attention.*`."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate is multiplied by this once per layer from the head down."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes what `accelerate launch` was given, else bf16 where the device has
    it in hardware, else fp32. Weights and optimizer stay in fp32."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of initial weights, data order and dropout."""
    on_non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is no finite number, in fp32 neither: stop before the step and name the rows, or leave
    the batch out (ten times at most)."""
    early_stopping: EarlyStopping | None = None
    """Needs validation rows."""
    lora: LoraConfig | None = None
    """Train adapters instead of all the weights."""
    compact_vocabulary: bool | Literal["auto"] = "auto"
    """Train only the embedding rows that the training rows use: the same result for less. `auto`: where it pays."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the layers with torch.compile. `auto`: on CUDA, where the run is long enough to repay it."""
    verify_parity: bool = False
    """Compare the first batch's loss and gradient with those of the padded eager model, and stop if they differ."""
    peer_timeout: float = Field(60, gt=0)
    """Minutes that a process waits for the others before it gives the run up (they wait while the main one tokenizes).
    A process that dies on the same machine is noticed at once."""
    log_every: int = Field(10, ge=1)
    """Steps between reads of the loss (each read waits for the device)."""


class GenerationSettings(Section):
    """How texts are generated, by tasks that predict them: at evaluation, at prediction, and by the saved model."""

    max_new_tokens: int = Field(128, ge=1)
    """Longest text, in tokens."""
    num_beams: int = Field(1, ge=1)
    """Beginnings that beam search keeps; 1 takes the likeliest next token each time."""
    length_penalty: float = 1.0
    """Beam search divides a text's log-likelihood by its length to this power: above 0 favours long ones."""
    do_sample: bool = False
    """Draw each token by its probability; the same draws for the same rows and `training.seed`."""
    temperature: float = Field(1.0, gt=0)
    """Sampling: below 1 makes likely tokens likelier."""
    top_k: int = Field(0, ge=0)
    """Sampling: only from so many likeliest tokens; 0 from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sampling: only from the likeliest tokens that have this probability together."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Above 1 makes tokens that a text has already less likely (Keskar et al. 2019, arXiv:1909.05858)."""
    no_repeat_ngram_size: int = Field(0, ge=0)
    """No run of so many tokens occurs twice in a text; 0 allows it."""


class IntervalsConfig(Section):
    """Percentile bootstrap of the final scores: rows drawn with replacement (Efron 1979)."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """Share of such intervals that hold the score of endlessly many rows like these."""
    resamples: int = Field(1000, ge=100)
    """Draws of the rows; fewer are made of many rows where a metric is slow, or none at all."""
    seed: int = Field(0, ge=0)
    """Seed of the draws."""


class EvaluationConfig(Section):
    """What is measured, and when."""

    every: Annotated[int, Field(ge=1)] | Literal["epoch"] = "epoch"
    """Evaluate on the validation rows every epoch or every N steps; a checkpoint is saved at the same moments."""
    metrics: list[str] | None = None
    """Metric names or paths; by default the task's."""
    best: str | None = None
    """The metric that decides which checkpoint is best, or `loss`; by default the task's."""
    greater_is_better: bool | None = None
    """Whether a larger `best` is better; only needed for a metric that isn't built in."""
    intervals: IntervalsConfig | None = IntervalsConfig()
    """Confidence intervals of the final scores; null leaves them out."""


class CheckpointConfig(Section):
    """What is kept to go on from."""

    every: int | None = Field(None, ge=1)
    """Also save every N steps, apart from evaluations."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept, so that there is one to fall back on; the best one is kept besides."""
    background: bool | Literal["auto"] = "auto"
    """Write while training goes on, from a copy in memory; `auto` does so on an accelerator."""


class RegistryConfig(Section):
    """Where the finished model is pushed. A push that fails costs nothing of the run."""

    target: str
    """`file:FOLDER/NAME`, `hub:USER/NAME`, `mlflow:NAME`, or a URL that fsspec knows such as `s3://BUCKET/FOLDER/NAME`."""
    alias: str | None = None
    """A name that moves to the new version, e.g. `staging`."""


class OutputConfig(Section):
    """Where the run's folder lies."""

    dir: str | None = None
    """The run directory; by default `runs/<name>`."""


TrackerName = Annotated[Literal["comet", "mlflow", "tensorboard", "trackio", "wandb"], BeforeValidator(not_gone)]


class TrackingConfig(Section):
    """Experiment trackers that the run is sent to, while it works, by a process of their own. None unless named."""

    to: list[TrackerName] = Field(default_factory=list)
    """Their names; `tracking: [mlflow, tensorboard]` is short for this setting."""
    project: str = "nlp-pipeline"
    """Project (MLflow: experiment) that the run is filed under."""
    run_name: str | None = None
    """Name of the run there; by default the run directory's."""
    uri: dict[TrackerName, str] = Field(default_factory=dict)
    """Where a tracker is, e.g. `{mlflow: "http://host:5000"}`; a folder for tensorboard and trackio. A password
    goes in as `${NAME}`."""
    wait: float = Field(60, ge=0)
    """Seconds that the end of a run waits for the trackers; what they have missed can be sent later."""
    log_model: bool = False
    """Send the model folder too."""
    system: bool = True
    """Send memory and processor time of the training process."""


def _expand_tracking(value: Any) -> Any:
    return {"to": [value]} if isinstance(value, str) else {"to": value} if isinstance(value, list | tuple) else value


def _expand_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _expand_target(value: Any) -> Any:
    return {"target": value} if isinstance(value, str) else value


class Config(Section):
    """A whole recipe."""

    task: str
    """The task, e.g. `text-classification` or `token-classification`."""
    recipe: str | None = None
    """A recipe class of your own: `path/to/file.py:ClassName`."""
    name: str | None = None
    """Name of the run; by default the recipe file's name."""
    model: Annotated[ModelConfig, BeforeValidator(_expand_name)]
    """A model name, or a section with details."""
    teacher: Annotated[TeacherConfig | None, BeforeValidator(_expand_name)] = None
    """A model to learn from: a folder, or a section with details."""
    data: DataConfig
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task itself; see the task's own list."""
    audit: AuditConfig = AuditConfig()
    tokenization: TokenizationConfig = TokenizationConfig()
    batch: BatchConfig = BatchConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    generation: GenerationSettings = GenerationSettings()
    checkpoint: CheckpointConfig = CheckpointConfig()
    output: OutputConfig = OutputConfig()
    tracking: Annotated[TrackingConfig, BeforeValidator(_expand_tracking)] = TrackingConfig()
    """Names of trackers, or a section with details."""
    registry: Annotated[RegistryConfig | None, BeforeValidator(_expand_target)] = None
    """A model registry to push to after the evaluation: an address alone, or a section with details."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or set("/\\\n\r\t") & set(value) or value.startswith(".")):
            raise ValueError("a run name is a plain folder name, without '/' and not starting with '.'")
        if value is not None and len(value.encode()) > LONGEST_NAME:
            raise ValueError(f"a run name of at most {LONGEST_NAME} bytes")
        return value

    def public(self) -> dict[str, Any]:
        """All settings as they may be written into a file: JSON's types, passwords hidden, `${NAME}` as it is."""
        settings: dict[str, Any] = public(self.model_dump(mode="json"))
        return settings
