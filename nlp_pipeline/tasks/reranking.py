"""Reranking: how well texts answer a query, by a cross-encoder that reads each together with the query."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..config import Config
from ..config.checks import smoothing_problems
from ..config.schema import Section
from ..data.candidates import COLUMNS, candidate_problems, candidates_of, query_pairs, ranking_record, scored_texts
from ..data.columns import Column
from ..data.fields import Field
from ..data.labels import column
from ..data.scores import scale_problems, score_problems
from ..data.token_table import grouped
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.usage import CROSS_ENCODER
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.tokenization import Encoder


class Reranking(Recipe):
    """A score for each of some texts and a query, read together."""

    task = "text-ranking"
    auto_model = "AutoModelForSequenceClassification"
    lora_task_type = "SEQ_CLS"
    column_names = frozenset(column.name for columns in COLUMNS.values() for column in columns)
    options_after_tokenization = frozenset({"loss", "lowest", "highest"})
    summary = "how well texts answer a query, each read together with it (a cross-encoder)"

    class Options(Section):
        """Settings of reranking."""

        rows: Literal["lists", "pairs"] = "lists"
        """`lists`: a query, texts that answer it and texts that don't, any number of both; `pairs`: a query, a text and
        a score. To predict, all the texts to rank may be in one list."""
        loss: Literal["auto", "listwise", "pairwise", "pointwise"] = "auto"
        """`listwise`: cross entropy of a softmax over a query's texts; `pairwise`: of each answer against each other
        text (RankNet); `pointwise`: binary cross entropy of each text alone. `auto`: listwise, of pairs pointwise."""
        lowest: float = 0.0
        """Pairs: the score of texts that have nothing to do with each other."""
        highest: float = 1.0
        """Pairs: the best score."""

    options: Options

    @property
    def kind(self) -> Kind:
        """Ranked candidates, or a number a pair."""
        return "ranking" if self.options.rows == "lists" else "regression"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Where the answers stand; how scores go together with the given ones."""
        return ("mrr@10", "ndcg@10", "map") if self.kind == "ranking" else ("spearman", "pearson")

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """Losses that need a list, and a scale without extent."""
        problems = []
        if options.rows == "pairs" and options.loss in ("listwise", "pairwise"):
            problems.append(f"options.loss: {options.loss} compares a query's texts; pairs have pointwise")
        return problems + scale_problems(options.lowest, options.highest) + smoothing_problems(config, "scores")

    def columns(self) -> tuple[Column, ...]:
        """A query with lists of texts, or with one text and its score."""
        return COLUMNS[self.options.rows]

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Scores off the scale; queries with nothing to tell their answers from."""
        row_ids = column(rows, "row_id")
        if self.kind == "regression":
            return score_problems(column(rows, "score"), self.options.lowest, self.options.highest, row_ids, split)
        return candidate_problems(*candidates_of(rows), row_ids, split)

    def model_settings(self) -> dict[str, Any]:
        """One number, as sentence-transformers' CrossEncoder has it."""
        return {"num_labels": 1, "id2label": {0: "relevance"}, "label2id": {"relevance": 0}}

    def fields(self) -> tuple[Field, ...]:
        """A sequence a text, and how relevant each is."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("token_type_ids"),
            Field("labels", "sequence", "float32", target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """The query with each text, as a pair of texts."""
        import pyarrow as pa

        texts, relevance = candidates_of(rows) if self.kind == "ranking" else scored_texts(rows)
        pairs = query_pairs(rows.column("query").to_pylist(), texts)
        columns = grouped(encoder(*pairs).columns(), [len(row) for row in texts])
        return columns if relevance is None else columns | {"labels": pa.array(relevance, pa.list_(pa.float32()))}

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """By the option, summed over queries or over texts."""
        from ..modeling.losses import ranking_loss_sum

        kind, options = "pointwise" if self._pointwise else self.options.loss, self.options
        scores, relevance, sizes = outputs.logits.squeeze(-1), targets["labels"], targets["sizes"]
        return ranking_loss_sum(kind, scores, relevance, sizes, options.lowest, options.highest)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Texts, or queries where their texts are compared."""
        return float(len(targets["labels" if self._pointwise else "sizes"]))

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float32[texts] a query, between 0 and 1."""
        return batch.by_example(outputs.logits.squeeze(-1).float().sigmoid().cpu().numpy())

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The score of a pair; or the best text, and all of them with their scores from the best down."""
        row_ids = column(rows, "row_id")
        if self.kind == "regression":
            return [{"row_id": i, "prediction": float(row[0])} for i, row in zip(row_ids, values, strict=True)]
        table = zip(row_ids, candidates_of(rows)[0], values, strict=True)
        return [{"row_id": i, **ranking_record(texts, scores)} for i, texts, scores in table]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Scores beside relevance."""
        if self.kind == "regression":
            return Outputs("regression", np.concatenate(values).astype(np.float64), np.array(column(rows, "score")))
        return Outputs("ranking", list(values), candidates_of(rows)[1])

    @property
    def _pointwise(self) -> bool:
        return self.options.loss == "pointwise" or self.kind == "regression"

    def usage(self) -> str:
        """With sentence-transformers."""
        return CROSS_ENCODER
