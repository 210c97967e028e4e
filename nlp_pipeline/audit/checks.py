"""All the checks over all the splits, in the order in which they are told."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..config.schema import AuditConfig
from .answers import check_answers
from .characters import Characters, unknown_codes
from .duplicates import check_exact, check_near, encode
from .findings import Finding
from .labels import check_labels
from .rows import SplitRows
from .texts import (
    check_known,
    check_lengths,
    check_scripts,
    check_spelled,
    check_texts,
    text_statistics,
    usual_script,
)
from .tokens import TokenCounts, count_tokens

if TYPE_CHECKING:
    from ..data.tokenization import Encoder


@dataclass(frozen=True)
class Tokenization:
    """How a run turns rows into tokens.

    `preprocess` is the task's, `limits` the most tokens in words.
    """

    preprocess: Callable[[pa.Table], Mapping[str, pa.Array]]
    encoder: "Encoder"
    limits: str


def check_splits(
    parts: Mapping[str, SplitRows],
    settings: AuditConfig,
    carved: Collection[str] = (),
    reported: Collection[str] = (),
    tokenization: Tokenization | None = None,
) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, errors first, and statistics by split.

    Args:
        parts: the splits, training first.
        carved: splits that were carved from the training rows.
        reported: messages that loading gave already.
        tokenization: None where there is no tokenizer to ask: what needs one is left out.
    """
    findings: list[Finding] = []
    characters = {split: Characters.of(rows.texts.to_pylist()) for split, rows in parts.items()}
    statistics = {}
    usual = usual_script(characters["train"]) if "train" in characters else None
    for split, rows in parts.items():
        findings += check_texts(rows)
        tokens: TokenCounts | None = None
        if tokenization is not None:
            tokens = count_tokens(rows, tokenization.preprocess, tokenization.encoder.max_length)
            findings += check_lengths(rows, tokens, tokenization.limits)
            unknown, spelled = unknown_codes(characters[split].distinct.tolist(), tokenization.encoder)
            findings += check_known(rows, characters[split], unknown, tokenization.encoder)
            findings += check_spelled(rows, characters[split], spelled)
        findings += check_scripts(rows, characters[split], usual)
        findings += check_answers(rows)
        statistics[split] = text_statistics(rows, characters[split], tokens)
    findings += check_labels(parts, carved, reported)
    codes, texts = encode(parts)
    findings += check_exact(parts, codes)
    findings += check_near(parts, codes, texts, settings.near_duplicate_threshold)
    kept = [finding for finding in findings if finding.check not in settings.ignore]
    return sorted(kept, key=lambda finding: finding.severity != "error"), statistics
