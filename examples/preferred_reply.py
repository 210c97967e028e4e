"""A task of one's own in one file: which of two replies people prefer, by a score for each (Bradley and Terry, 1952).

A recipe has `task: text-classification` and `recipe: examples/preferred_reply.py:PreferredReply`; its rows have the
columns `first`, `second` and `preferred`. What is not said here, from checkpoints to model card, is as for any task.
"""

import numpy as np
import pyarrow as pa

from nlp_pipeline import Recipe
from nlp_pipeline.data.columns import Column
from nlp_pipeline.data.fields import Field
from nlp_pipeline.data.token_table import grouped
from nlp_pipeline.evaluation.metrics import Outputs


class PreferredReply(Recipe):
    task = "text-classification"
    auto_model = "AutoModelForSequenceClassification"
    column_names = frozenset({"first", "second", "preferred"})
    kind = "single_label"
    default_metrics = ("accuracy",)

    def columns(self):
        return Column("first", "text"), Column("second", "text"), Column("preferred", "label", is_label=True)

    def model_settings(self):
        return {"num_labels": 1}

    def fields(self):
        tokens = Field("input_ids", pad=self.pad_token_id), Field("token_type_ids")
        return *tokens, Field("labels", "row", "float32", target=True)

    def preprocess(self, rows, encoder):
        pairs = zip(rows.column("first").to_pylist(), rows.column("second").to_pylist(), strict=True)
        columns = grouped(encoder([text for pair in pairs for text in pair]).columns(), [2] * len(rows))
        if "preferred" in rows.column_names:  # not when there is only something to predict
            columns["labels"] = pa.array([v == "first" for v in rows.column("preferred").to_pylist()]).cast(
                pa.float32()
            )
        return columns

    def loss(self, outputs, targets):
        lead, labels = outputs.logits.float().view(-1, 2).diff().neg().squeeze(1), targets["labels"]
        return (lead.clamp(min=0) - lead * labels + lead.abs().neg().exp().log1p()).sum()

    def weigh(self, targets):
        return float(len(targets["labels"]))

    def collect(self, outputs, batch):
        return list(outputs.logits.float().view(-1, 2).softmax(-1).cpu().numpy())

    def postprocess(self, values, rows):
        found = zip(rows["row_id"], values, strict=True)
        return [{"row_id": i, "prediction": ("first", "second")[p.argmax()], "score": float(p.max())} for i, p in found]

    def outputs(self, values, rows):
        right = np.array([int(value != "first") for value in rows["preferred"]])
        return Outputs("single_label", np.array([p.argmax() for p in values]), right, label_names=("first", "second"))
