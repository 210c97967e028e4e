"""What tasks have in common that learn embeddings: a vector a text, by which texts are compared."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config
from ..data.columns import Column
from ..data.fields import Field
from ..data.text_groups import COLUMNS, encoded_groups, keys_of, text_groups
from ..modeling.distillation import teacher_pooling, vector_teacher_problems
from ..recipe import Recipe
from .embedding_options import EmbeddingOptions

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.token_table import TokenTable
    from ..data.tokenization import Encoder
    from ..modeling.distillation import SoftTargets
    from ..modeling.embeddings import Pooling


class Embedding(Recipe):
    """An encoder whose vectors are learned from pairs of texts, with a score or without, or from labelled texts."""

    auto_model = "AutoModel"
    lora_task_type = "FEATURE_EXTRACTION"
    library = "sentence-transformers"
    unused_parameters = ("pooler.*",)
    options_after_tokenization = frozenset(
        "loss temperature pooling normalize dimensions hard_negatives margin lowest highest".split()
    )
    options: EmbeddingOptions

    @property
    def whole_batch(self) -> bool:
        """All but the regression of cosines compare the texts of a batch with each other, and so may a student."""
        return self.options.loss_name != "cosine" or self.config.teacher is not None

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """Losses that need other rows, and the like."""
        return options.problems(config) + vector_teacher_problems(config.teacher)

    def columns(self) -> tuple[Column, ...]:
        """By what a row is."""
        return COLUMNS[self.options.rows]

    def input_columns(self) -> tuple[Column, ...]:
        """A text, or two to compare."""
        first, second = self.columns()[:2]
        return (first,) if second.is_label else (first, replace(second, required=False))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the columns that hold texts."""
        return tuple(c.name for c in self.columns() if c.kind in ("text", "texts"))

    def stratify(self) -> str | None:
        """By label, where there is one."""
        return "label" if self.options.rows == "labelled" else None

    def fields(self) -> tuple[Field, ...]:
        """A sequence a text, and what tells which of them belong together."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("keys", "sequence", target=True),
            Field("labels", "row", "float32" if self.options.rows == "scored" else "int64", target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Each text by itself; equal texts and equal labels get equal numbers."""
        import pyarrow as pa

        groups = text_groups(rows, self.text_columns)
        keys = pa.array(keys_of(text for texts in groups for text in texts))
        columns = encoded_groups(groups, encoder, keys=keys)
        if "score" in rows.column_names:
            columns["labels"] = pa.array(rows.column("score").to_pylist(), pa.float32())
        elif "label" in rows.column_names:
            columns["labels"] = pa.array(keys_of(rows.column("label").to_pylist()))
        return columns

    def preprocess_inputs(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """A text, or two where there are two."""
        return encoded_groups(text_groups(rows, self.text_columns[:2]), encoder)

    def complete(self, table: "TokenTable", split: str | None = None) -> "TokenTable":
        """Training rows with the negatives that are mined for them."""
        from ..stages.mining import with_hard_negatives

        wanted = self.options.hard_negatives if split == "train" else 0
        return with_hard_negatives(self, table, wanted, self.options.margin) if wanted else table

    def forward(self, model: Any, batch: "Batch") -> Any:
        """`representations` float32[texts, features], of any length."""
        from ..modeling.embeddings import pooled

        outputs = model(**batch.inputs)
        states, mask = outputs.last_hidden_state, batch.inputs["attention_mask"]
        outputs.representations = pooled(states, mask, self.options.pooling)
        return outputs

    def has_loss(self, targets: "Mapping[str, torch.Tensor]") -> bool:
        """Whether it is known which texts belong together."""
        return "keys" in targets

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """By the option, summed over rows."""
        from ..modeling.contrastive import nested_loss_sum

        options = self.options
        scale = options.temperature, options.lowest, options.highest
        return nested_loss_sum(options.loss_name, outputs.representations, targets, options.dimensions, *scale)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Rows; of labelled texts those that have another one of their label beside them."""
        from ..modeling.contrastive import with_partners

        if self.options.rows == "labelled":
            return float(with_partners(targets["labels"]).sum())
        return float(len(targets["sizes"]))

    def soft_targets(self) -> "SoftTargets":
        """The teacher's vectors."""
        from ..modeling.distillation import vector_targets

        return vector_targets(self._teacher_pooling, self.weigh)

    @cached_property
    def _teacher_pooling(self) -> "Pooling":
        assert self.config.teacher is not None
        return teacher_pooling(self.config.teacher) or self.options.pooling

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float32[texts, features] a row."""
        from ..modeling.embeddings import unit

        vectors = outputs.representations
        return batch.by_example((unit(vectors) if self.options.normalize else vectors).cpu().numpy())

    def write_beside(self, model: Any, folder: Path) -> None:
        """What sentence-transformers reads."""
        from ..modeling.embeddings import write_modules

        write_modules(folder, model, self.encoder.max_length, self.options.pooling, self.options.normalize)
