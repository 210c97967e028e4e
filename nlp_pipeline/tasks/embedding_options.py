"""The settings of tasks that learn embeddings."""

from typing import Annotated, Literal

from pydantic import Field as Setting

from ..config import Config
from ..config.checks import smoothing_problems
from ..config.schema import Section
from ..data.scores import scale_problems

LOSSES = {
    "pairs": ("in_batch_negatives",),
    "scored": ("cosent", "cosine"),
    "labelled": ("supervised_contrastive", "batch_triplet"),
}


METRICS = {
    "pairs": ("mrr@10", "ndcg@10", "recall@1", "recall@10"),
    "scored": ("spearman", "pearson"),
    "labelled": ("nearest_neighbour_accuracy", "map", "ndcg@10"),
}


class EmbeddingOptions(Section):
    """Settings of sentence embeddings."""

    rows: Literal["pairs", "scored", "labelled"] = "pairs"
    """`pairs`: an anchor and a text that belongs to it, perhaps with texts that don't (`negative`, `negatives`);
    `scored`: two texts and how alike they are; `labelled`: a text and its label."""
    loss: Literal["auto", "in_batch_negatives", "cosent", "cosine", "supervised_contrastive", "batch_triplet"] = "auto"
    """Pairs: `in_batch_negatives`, the other texts of the batch being wrong answers. Scored pairs: `cosent`, by the
    order of their cosines, or `cosine`, by how far these are from the scores. Labelled texts:
    `supervised_contrastive`, or `batch_triplet`. `auto`: the first of these."""
    temperature: float = Setting(0.05, gt=0)
    """Cosines are divided by this in the loss (a scale of 20 elsewhere is 0.05 here)."""
    pooling: Literal["mean", "cls"] = "mean"
    """The vector of a text: the mean over its tokens, or that of its first one."""
    normalize: bool = True
    """Whether vectors have length 1."""
    dimensions: list[Annotated[int, Setting(ge=1)]] = Setting(default_factory=list)
    """Sizes below the model's own, as `[64, 128]`: the loss is the mean over whole vectors and their first so many
    numbers, so that vectors may be cut there (Matryoshka; `SentenceTransformer(folder, truncate_dim=64)`)."""
    hard_negatives: int = Setting(0, ge=0)
    """Pairs: so many texts of other rows, those that the starting model takes for likest, as further negatives."""
    margin: float = Setting(0.05, ge=0, le=2)
    """Only texts whose cosine is so far below that of the right one: what is nearer may be right as well."""
    lowest: float = 0.0
    """The score of texts that have nothing to do with each other (`cosine` only)."""
    highest: float = 1.0
    """The best score (`cosine` only)."""

    @property
    def loss_name(self) -> str:
        """The loss that is meant."""
        return LOSSES[self.rows][0] if self.loss == "auto" else self.loss

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured unless other metrics are chosen."""
        return METRICS[self.rows]

    def problems(self, config: Config) -> list[str]:
        """Losses that need other rows, a scale without extent, and settings without a meaning."""
        problems, fitting = [], LOSSES[self.rows]
        if self.loss not in ("auto", *fitting):
            problems.append(
                f"options.loss: {self.loss} has no use for {self.rows} rows; they have {', '.join(fitting)}"
            )
        if self.hard_negatives and self.rows != "pairs":
            problems.append("options.hard_negatives: only pairs have negatives; leave it out")
        return problems + scale_problems(self.lowest, self.highest) + smoothing_problems(config, "embeddings")
