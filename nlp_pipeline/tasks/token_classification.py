"""Token classification: a tag for every word, as in named entity recognition (IOB2) or part-of-speech tagging."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..config.schema import Section
from ..data.columns import Column
from ..data.fields import IGNORED, Field
from ..data.labels import ClassWeights, Labels, column
from ..data.tags import TagReader, inside_tag, tag_record, tags_by_word, token_labels, usual_tags, word_tags
from ..evaluation.classification import tag_outputs
from ..evaluation.metrics import Kind, Outputs
from .classification import Classification

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.splits import Splits
    from ..data.tokenization import Encoder
    from ..modeling.distillation import SoftTargets

OUTSIDE = "O"


class TokenClassification(Classification):
    """A tag for every word."""

    task = "token-classification"
    auto_model = "AutoModelForTokenClassification"
    lora_task_type = "TOKEN_CLS"
    column_names = frozenset({"tokens", "tags"})
    options_after_tokenization = frozenset({"class_weights"})
    summary = "a tag for every word: entities (IOB2), parts of speech"

    class Options(Section):
        """Settings of token classification."""

        scheme: Literal["iob2", "plain"] = "iob2"
        """`iob2`: entities as B-, I- and O, scored whole; `plain`: tags on their own, such as parts of speech."""
        tag_names: list[str] | None = None
        """Names of the tags where the data holds class ids, in the order of the ids."""
        label_all_subwords: bool = False
        """Train on every sub-word of a word, not only on its first."""
        class_weights: ClassWeights = None
        """`balanced` weighs each tag against its frequency; or a weight by tag name."""

    options: Options

    @property
    def kind(self) -> Kind:
        """Whole entities, or each word's tag by itself."""
        return "tags" if self.options.scheme == "iob2" else "single_label"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Entity scores, or the accuracy of words."""
        return ("seqeval",) if self.kind == "tags" else ("accuracy", "f1_macro")

    def columns(self) -> tuple[Column, ...]:
        """Words and their tags."""
        tags = ("ner_tags", "pos_tags", "labels", "ner", "tag")
        return Column("tokens", "tokens", ("words",)), Column("tags", "tags", tags, is_label=True)

    def learn(self, splits: "Splits") -> list[str]:
        """Tag names from the training rows; reports what the tags of every split get wrong."""
        problems: list[str] = []
        for split, rows in splits.parts.items():
            found, note = self._read.problems(column(rows, "tags"), column(rows, "row_id"), split)
            problems += found
            splits.notes.extend([note] if note else [])
        return problems or super().learn(splits)

    def named(self, names: set[str]) -> Labels:
        """With what every sub-word is trained on; what says nothing comes first."""
        inside = self.options.label_all_subwords and self.kind == "tags"
        return Labels.from_values(names | {inside_tag(tag) for tag in names if inside}, first=OUTSIDE)

    def labels_of(self, rows: "datasets.Dataset") -> list[list[str]]:
        """The tag of each word."""
        return self._read.every(column(rows, "tags"))

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Tags that are malformed, and plain tags that training never showed."""
        problems, _ = self._read.problems(column(rows, "tags"), column(rows, "row_id"), split)
        return problems or self.unseen(rows, split)

    def unseen(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Plain tags alone: an entity's that training never showed counts as missed, a plain one is a slip."""
        return [] if self.kind == "tags" else super().unseen(rows, split)

    def fields(self) -> tuple[Field, ...]:
        """Tokens, the word of each, and its tag's id."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("word_ids", pad=-1, target=True),
            Field("labels", pad=IGNORED, target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Words to token ids; each word's tag to its first sub-word, or to all of them."""
        encoded = encoder(rows.column("tokens").to_pylist(), words=True)
        assert encoded.word_ids is not None
        columns = encoded.columns() | {"word_ids": encoded.ragged(encoded.word_ids)}
        if "tags" not in rows.column_names:
            return columns
        tags = self._read.every(rows.column("tags").to_pylist())
        labels = token_labels(
            tags, encoded.word_ids, encoded.offsets, self.known_labels.ids, OUTSIDE, self.options.label_all_subwords
        )
        return columns | {"labels": encoded.ragged(labels)}

    def soft_targets(self) -> "SoftTargets":
        """The teacher's logits of each token."""
        from ..modeling.distillation import token_targets

        return token_targets(len(self.known_labels))

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """int64[words] a row: the tag id at each word's first sub-word, -1 for a word without one."""
        best = outputs.logits.argmax(-1).cpu().numpy()
        return [word_tags(*row) for row in zip(batch.targets["word_ids"].cpu().numpy(), best, strict=True)]

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """A tag for every word, and the entities that they spell."""
        tokens = column(rows, "tokens")
        table = zip(column(rows, "row_id"), tokens, self._tags(values, tokens), strict=True)
        return [{"row_id": i, **tag_record(words, tags, self.kind == "tags")} for i, words, tags in table]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Tag sequences, or each word's tag id."""
        return self._outputs(self._tags(values, column(rows, "tokens")), rows)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """Each word's most frequent tag in the training rows; unknown words get the most frequent tag of all."""
        table, usual = usual_tags(column(train, "tokens"), self.labels_of(train))

        def guess(rows: "datasets.Dataset") -> Outputs:
            return self._outputs([[table.get(word, usual) for word in words] for words in column(rows, "tokens")], rows)

        return "each word's most frequent tag", guess

    def _outputs(self, predicted: list[list[str]], rows: "datasets.Dataset") -> Outputs:
        return tag_outputs(predicted, self.labels_of(rows), self.kind, self.known_labels)

    def _tags(self, values: Sequence[np.ndarray], tokens: Sequence[Sequence[str]]) -> list[list[str]]:
        """A tag for each word; words beyond the maximum length get the tag that says nothing."""
        return tags_by_word(values, tokens, self.known_labels.names, OUTSIDE)

    @property
    def _read(self) -> TagReader:
        return TagReader(self.kind == "tags", self.options.tag_names)
