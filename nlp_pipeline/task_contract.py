"""What a task states and supplies, so that one engine can run them all."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .config import Config
from .config.schema import Section
from .data.columns import Column
from .data.fields import Field, collate
from .data.labels import Labels
from .evaluation.metrics import Kind, Outputs
from .evaluation.usage import pipeline_code

if TYPE_CHECKING:
    from pathlib import Path

    import datasets
    import pyarrow as pa
    import torch

    from .config.schema import ModelConfig
    from .data.fields import Batch
    from .data.splits import Splits
    from .data.token_table import TokenTable
    from .data.tokenization import Encoder
    from .modeling.distillation import SoftTargets


class TaskContract:
    """The part of a Recipe that a task writes. What raises NotImplementedError here every task must supply.

    A row of the data becomes an example, or several (windows of a long text); an example is a sequence of tokens, or
    several that belong together (the choices of a question). Training draws examples, a forward pass never splits one,
    and predictions are made row by row.
    """

    task: ClassVar[str]
    """What a recipe calls the task: the Hub's pipeline tag, where it has one for it."""
    pipeline_tag: ClassVar[str | None] = None
    """The Hub's pipeline tag of the trained model, if it isn't `task`."""
    auto_model: ClassVar[str]
    """The class of transformers that loads the model with its head."""
    lora_task_type: ClassVar[str | None] = None
    """peft's name of the task, by which it keeps the head trainable."""
    column_names: ClassVar[frozenset[str]]
    """Every column name the task may ask for: the keys that `data.columns` may map."""
    options_after_tokenization: ClassVar[frozenset[str]] = frozenset()
    """Options that token ids don't depend on: another value finds the old ids in the cache."""
    draws_tokens: ClassVar[bool] = False
    """Whether `augment` puts tokens into a batch that the rows don't have."""
    generates: ClassVar[bool] = False
    """Whether predictions are texts made token by token by the model's own `generate`, as `generation` has it."""
    library: ClassVar[str] = "transformers"
    """The library that loads the saved model, as the Hub calls it."""
    unused_parameters: ClassVar[tuple[str, ...]] = ()
    """Globs over names of parameters that play no part in the outputs; they are not trained."""
    summary: ClassVar[str] = ""
    """One sentence for `nlp-pipeline --help` and the model card."""

    class Options(Section):
        """The task's own settings; a subclass of Section."""

    config: Config
    options: Any
    labels: Labels | None = None
    """What is predicted, where it is one of a set of names."""
    weights: np.ndarray | None = None
    """float32[labels], the classes' weights in the loss."""
    head_bias: np.ndarray | None = None
    """float32[labels], where the bias of a new head starts, if not at 0: at what one would predict without the text."""
    tuned: dict[str, float]
    """Numbers beside the weights that `learn` asks for and `tune` sets; a saved model carries them."""
    pad_token_id: int = 0
    padded_because: str | None = "no model was looked at yet"
    """Why the model runs padded; None where it runs without padding. Known from `tokenize` on."""
    encoder: "Encoder"
    """The tokenizer at the run's maximum length; there from `audit` or `tokenize` on."""
    base_labels: Labels | None = None
    """The labels that the pretrained model carries."""

    @property
    def kind(self) -> Kind:
        """The kind of prediction, by which metrics are checked and computed."""
        raise NotImplementedError

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Metric names; the first one decides which checkpoint is best."""
        raise NotImplementedError

    def columns(self) -> tuple[Column, ...]:
        """The columns the task reads; the first is what `predict` fills from a plain list."""
        raise NotImplementedError

    def gather(self, rows: "pa.Table") -> "pa.Table":
        """A split's rows as the task's, before any split is carved: several rows may belong together as one.

        Must keep `row_id` and the order.
        """
        return rows

    def input_columns(self) -> tuple[Column, ...]:
        """The columns that rows to predict for are read from: labels they may have are not even looked at."""
        return tuple(column for column in self.columns() if not column.is_label)

    def stratify(self) -> str | None:
        """The column whose values a carved split keeps in proportion."""
        return None

    def learn(self, splits: "Splits") -> list[str]:
        """Learn label names and the like from the training rows. Returns problems with any split's labels."""
        return [problem for split, rows in splits.parts.items() for problem in self.check_labels(rows, split)]

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Problems with the labels of rows that are to be scored: names that training never showed, and the like."""
        return []

    def restore(self, model_config: Any) -> None:
        """Take back from a fine-tuned model's config what `learn` put there through `model_settings`."""

    def model_settings(self) -> dict[str, Any]:
        """Entries of the model's config: label names, problem type."""
        return {}

    def fields(self) -> tuple[Field, ...]:
        """The columns that `preprocess` gives and the tensors they become."""
        raise NotImplementedError

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> Mapping[str, "pa.Array"]:
        """Rows to token ids and targets: a column for each field. Pure; batched; labels may be absent (prediction).

        A row may give several examples: then `row` holds the position of each one's row in the batch, ascending, each
        row at least once. An example may be several sequences: then `input_ids` and every column like it hold lists of
        lists. `truncated`, bool[examples], says which lost tokens to the maximum length. `length`, the tokens of each
        example, is counted from `input_ids` unless it is given.
        """
        raise NotImplementedError

    def longest(self) -> dict[str, int | None]:
        """The settings that bound a sequence, in tokens: what the model has positions for must hold it."""
        return {"tokenization.max_length": self.config.tokenization.max_length}

    def limits(self) -> str:
        """How many tokens an example may have, and the setting that says so, in words."""
        return f"{self.encoder.max_length} tokens (tokenization.max_length)"

    def ready_tokenizer(self, tokenizer: Any) -> None:
        """Give the tokenizer what the task needs of it; it is saved with the model as it is then.

        Raises:
            ConfigError: the settings that this goes by can't be used.
        """

    def preprocess_inputs(self, rows: "pa.Table", encoder: "Encoder") -> Mapping[str, "pa.Array"]:
        """`preprocess` of rows to predict for, where it isn't the same: a text may hold what is to be predicted."""
        return self.preprocess(rows, encoder)

    def ready_model(self, model: Any) -> None:
        """Set what the saved model needs beside its config."""

    def write_beside(self, model: Any, folder: "Path") -> None:
        """Write what the saved model needs beside its weights, config and tokenizer, which lie in the folder."""

    def fit_rest(self, model: Any) -> None:
        """Learn from the training rows what isn't learned by gradient, such as a head fitted on embeddings.

        Called on every process before each evaluation, and at the end with the weights that were saved, after which
        `write_beside` is called once more.
        """

    def models_beside(self) -> "Mapping[str, ModelConfig]":
        """Models that the result depends on beside the one that is trained and its teacher, by the settings' names."""
        return {}

    def complete(self, table: "TokenTable", split: str | None = None) -> "TokenTable":
        """The tokenized rows with what another model says of them, by `with_columns`; called on every process.

        Args:
            split: None for rows that are no split of the run.
        """
        return table

    def batch(
        self, table: "TokenTable", examples: np.ndarray, epoch: int | None = None, fields: Sequence[Field] | None = None
    ) -> "Batch":
        """Examples of a table as one batch.

        Args:
            examples: int[n], positions in the table.
            epoch: the epoch of training, None at evaluation and prediction.
            fields: those that are needed, by default all of them.
        """
        if fields is None:
            fields = (*self.fields(), *self.soft_fields())
        return self.augment(collate(table, fields, examples), epoch)

    def augment(self, batch: "Batch", epoch: int | None) -> "Batch":
        """Change a batch at random (masking and the like), as `data.fields.draws(seed, epoch, index)` has it.

        An example's draws depend on the seed, the epoch and its position in the table alone, never on the batch that it
        is in: a resumed run and any number of processes get the same. At evaluation and prediction `epoch` is None.
        """
        return batch

    def weighing_fields(self) -> Sequence[Field]:
        """The fields that `weigh` needs of a batch."""
        return [field for field in self.fields() if field.target]

    def forward(self, model: Any, batch: "Batch") -> Any:
        """The model's outputs, as `loss` reads them."""
        return model(**batch.inputs)

    def infer(self, model: Any, batch: "Batch") -> Any:
        """The outputs at evaluation and prediction, as `collect` reads them, and `loss` where there are targets."""
        return self.forward(model, batch)

    @property
    def whole_batch(self) -> bool:
        """Whether what an example adds to the loss depends on the others of the optimizer step.

        Then `loss` reads of the outputs `representations` alone, float[sequences, features], which `forward` has to
        give; it is called with those of all micro-batches and processes together.
        """
        return False

    def has_loss(self, targets: Mapping[str, "torch.Tensor"]) -> bool:
        """Whether a batch has what the loss needs; rows to predict for have no labels."""
        return "labels" in targets

    def loss(self, outputs: Any, targets: Mapping[str, "torch.Tensor"]) -> "torch.Tensor":
        """The loss summed over targets, float32[].

        Where examples are several sequences, `targets["sizes"]` int64[examples] is the number of each one's.
        """
        raise NotImplementedError

    def soft_targets(self) -> "SoftTargets | None":
        """What a student learns from a teacher of this task, and by which loss; None: a task without teachers."""
        return None

    def soft_fields(self) -> tuple[Field, ...]:
        """The field of the teacher's answers, if there is one."""
        soft = self.soft_targets() if self.config.teacher else None
        return () if soft is None else (soft.field,)

    def training_loss(self, outputs: Any, targets: Mapping[str, "torch.Tensor"]) -> "torch.Tensor":
        """The loss, and where a batch has a teacher's answers, its share of how far the outputs are from them."""
        loss, teacher = self.loss(outputs, targets), self.config.teacher
        soft = None if teacher is None else self.soft_targets()
        if teacher is None or soft is None or soft.field.name not in targets:
            return loss
        apart = soft.loss(outputs, targets, teacher.temperature)
        return (1 - teacher.weight) * loss + teacher.weight * apart

    def weigh(self, targets: Mapping[str, "torch.Tensor"]) -> float:
        """What the summed loss is divided by, over the whole effective batch: the number or weight of targets."""
        raise NotImplementedError

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """One array an example: as little of the model's output as `postprocess` needs, on the CPU."""
        raise NotImplementedError

    def unsure(self, values: Sequence[np.ndarray]) -> np.ndarray | None:
        """int64[n], rows whose prediction coarser arithmetic may have changed; None: nothing can be said of any."""
        return None

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """What was collected, in the user's words: one record a row, with `row_id` and `prediction`.

        This and `outputs` are called with a window of rows at a time. `values` has one array a row, or the list of its
        examples' arrays where `preprocess` names each one's row.
        """
        raise NotImplementedError

    def samples(self, records: Sequence[dict[str, Any]], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Of the predictions of an evaluation during training, what is worth showing; it is logged as `samples`."""
        return []

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """Predictions beside references, for the metrics."""
        raise NotImplementedError

    def tune(self, values: Sequence[Any], rows: "datasets.Dataset") -> None:
        """Set the numbers in `tuned` by what the final weights say of the validation rows.

        Called where there are any such numbers, with all the rows at once, `values` as in `outputs`.
        """

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]] | None":
        """What one would predict without reading the text: its name, and the predictions it makes for some rows."""
        return None

    def predicts(self) -> str:
        """What is predicted, for the model card."""
        if self.labels is not None:
            return ", ".join(f"`{name}`" for name in self.labels.names[:100])
        return "a number" if self.kind == "regression" else self.summary

    def usage(self) -> str:
        """Python code for the model card that uses the saved model without this package."""
        return pipeline_code(self.task, "classify", '"a text of your own"')

    def weights_on(self, targets: "torch.Tensor") -> "torch.Tensor | None":
        """The class weights on the device of some targets."""
        import torch

        return None if self.weights is None else torch.from_numpy(self.weights).to(targets.device)

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """The task's own problems with the settings, over and above the options' types."""
        return []
