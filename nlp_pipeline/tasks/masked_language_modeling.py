"""Masked language modelling: hidden words from what is around them; domain adaptation of a pretrained encoder."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Setting

from ..config.schema import Section
from ..data.documents import masked_columns
from ..data.fields import IGNORED, Field, draws
from ..data.labels import column
from ..data.masking import NO_WORD, OPEN, mask_words
from ..errors import ModelError
from .language_modeling import LanguageModeling

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.tokenization import Encoder

SHOWN = 5
"""Tokens that are listed for a mask in a text."""


class MaskedLanguageModeling(LanguageModeling):
    """Words of a text, hidden at random anew in each epoch while training, each in its turn at evaluation."""

    task = "fill-mask"
    auto_model = "AutoModelForMaskedLM"
    options_after_tokenization = frozenset({"share", "folds"})
    draws_tokens = True
    summary = "the words that are hidden in a text"

    class Options(Section):
        """Settings of masked language modelling."""

        share: float = Setting(0.15, gt=0, lt=1)
        """Share of the words that are hidden from the model while it trains."""
        whole_words: bool = True
        """Hide words with all of their tokens; false hides tokens one by one."""
        folds: int = Setting(8, ge=1)
        """Passes in which evaluation hides every word once; with as many as a text has words each is hidden alone."""

    options: Options

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Pseudo-perplexity (Salazar et al. 2020, arXiv:1910.14659)."""
        return ("pseudo_perplexity",)

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and the word that each belongs to."""
        return Field("input_ids", pad=self.pad_token_id), Field("words", pad=NO_WORD, target=True)

    def weighing_fields(self) -> Sequence[Field]:
        """What is hidden is drawn from the tokens."""
        return self.fields()

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Texts to sequences, long ones to several."""
        if encoder.tokenizer.mask_token_id is None:
            raise ModelError("model: its tokenizer has no mask token; take an encoder such as BERT")
        return masked_columns(encoder, rows.column("text").to_pylist(), self.options.whole_words)

    def augment(self, batch: "Batch", epoch: int | None) -> "Batch":
        """Words hidden at random while training; elsewhere every token is a target, hidden by `infer`."""
        import torch

        ids, words = batch.inputs["input_ids"], batch.targets["words"]
        if epoch is None:
            batch.targets["labels"] = torch.where(words >= 0, ids, IGNORED)
            return batch
        masked, labels = ids.numpy().copy(), np.full(ids.shape, IGNORED, np.int64)
        tokenizer, seed = self.encoder.tokenizer, self.config.training.seed
        vocabulary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        for i, index in enumerate(batch.rows.tolist()):
            masked[i], labels[i] = mask_words(
                masked[i],
                words[i].numpy(),
                draws(seed, epoch, index),
                self.options.share,
                tokenizer.mask_token_id,
                vocabulary,
            )
        batch.inputs["input_ids"], batch.targets["labels"] = torch.from_numpy(masked), torch.from_numpy(labels)
        return batch

    def infer(self, model: Any, batch: "Batch") -> Any:
        """Each token's loss from a pass in which its word is hidden; and what best fills the masks of the texts."""
        from ..modeling.heads import logits_at, losses_hidden_in_turn

        losses = losses_hidden_in_turn(model, batch, self.encoder.tokenizer.mask_token_id, self.options.folds)
        where, best = batch.targets["words"] == OPEN, None
        if bool(where.any()):
            with logits_at(model, where):
                best = model(**batch.inputs).logits.float().softmax(-1).topk(SHOWN)
        return SimpleNamespace(losses=losses, open=where, best=best)

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy over the hidden tokens, summed."""
        hidden_in_turn: torch.Tensor | None = getattr(outputs, "losses", None)
        return super().loss(outputs, targets) if hidden_in_turn is None else hidden_in_turn.sum()

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[2 + 10 × masks] an example: loss and tokens, then for each mask the best ids and probabilities."""
        from ..modeling.heads import sums_and_counts

        values = sums_and_counts(outputs.losses, batch.targets["labels"])
        if outputs.best is not None:
            found = [part.cpu().double().numpy() for part in (outputs.best.indices, outputs.best.values)]
            ends = np.cumsum(outputs.open.sum(1).cpu().numpy())[:-1]
            fills = np.split(np.concatenate(found, axis=1), ends)
            values = [np.concatenate([value, fill.ravel()]) for value, fill in zip(values, fills, strict=True)]
        return values

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The text with its masks filled by the best tokens, the next best ones, and how likely the text is."""
        tokenizer, records = self.encoder.tokenizer, []
        table = zip(self.likelihoods(values, rows), column(rows, "text"), values, strict=True)
        for record, text, examples in table:
            fills = []
            for mask in np.concatenate([value[2:] for value in examples]).reshape(-1, 2, SHOWN):
                tokens = [tokenizer.decode([int(i)]).strip() for i in mask[0]]
                fills.append([{"token": t, "score": float(p)} for t, p in zip(tokens, mask[1], strict=True)])
                text = text.replace(tokenizer.mask_token, tokens[0], 1)
            likely = {"pseudo_perplexity": record.pop("perplexity"), **record}
            records.append({"row_id": likely.pop("row_id"), "prediction": text, "fills": fills, **likely})
        return records
