"""The choice to train a part of the input embedding."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..devices import launched_sharding
from ..progress import Reporter

if TYPE_CHECKING:
    from ..data.token_table import TokenTable
    from ..modeling.compact_vocabulary import CompactVocabulary
    from ..recipe import Recipe


def compact_vocabulary(
    recipe: "Recipe", model: Any, table: "TokenTable", reporter: Reporter
) -> "CompactVocabulary | None":
    """The input embedding cut down to the training rows' tokens, where that is possible and worth it."""
    from ..modeling.compact_vocabulary import WORTH_BYTES, CompactVocabulary, why_not_compact

    setting = recipe.config.training.compact_vocabulary
    if setting is False:
        return None
    if launched_sharding():
        reporter.say("compact vocabulary: off, the processes share the whole table between them (FSDP); same result")
        return None
    reason = "the task draws tokens that the rows don't have" if recipe.draws_tokens else why_not_compact(model)
    if reason is not None:
        if setting is True:
            reporter.say(f"compact vocabulary: off, {reason}")
        return None
    ids = [field.name for field in recipe.fields() if field.name.endswith("input_ids") and not field.target]
    parts = [table.distinct(name) for name in ids if name in table.columns]
    used = np.unique(np.concatenate([*parts, [recipe.pad_token_id], recipe.encoder.tokenizer.all_special_ids]))
    embedding = model.get_input_embeddings()
    saved = (embedding.num_embeddings - len(used)) * embedding.embedding_dim * 12
    if setting == "auto" and saved < WORTH_BYTES:
        return None
    compact = CompactVocabulary(model, used[used < embedding.num_embeddings])
    reporter.say(
        f"compact vocabulary: {len(compact.used):,} of {len(compact.whole):,} embedding rows train, "
        f"{compact.bytes_saved / 2**20:,.0f} MiB saved"
    )
    return compact
