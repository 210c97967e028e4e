"""Languages of models that know many: how the tokenizer of each family is told from which into which."""

import difflib
import re
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .labels import shown

NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
BOTH = "options.source_language, options.target_language"


@dataclass(frozen=True)
class Languages:
    """The codes of the source's and the target's language; None where nothing is said of them.

    mBART, NLLB and M2M100 have a token for each language: their tokenizer sets one beside the source and one beside
    the text, which generation begins with (arXiv:2001.08210, arXiv:2010.11125). A Marian model into several languages
    (OPUS-MT) is told the target alone, by a mark before each source.
    """

    source: str | None = None
    target: str | None = None

    def tell(self, tokenizer: Any, needed: bool) -> str | None:
        """Set a tokenizer to these languages; something to say where it may not be enough, else None.

        Args:
            needed: a tokenizer of many languages has to be told; else one that isn't stays as it is.

        Raises:
            ConfigError: it has no languages, not these, or isn't told enough.
        """
        codes = language_codes(tokenizer)
        if problems := self._problems(tokenizer, codes, needed):
            raise ConfigError(problems)
        if _marks_sources(tokenizer):
            return _several(codes) if codes and needed and self.target is None else None
        if self.target is not None:
            tokenizer.src_lang, tokenizer.tgt_lang = self.source, self.target
        elif codes and tokenizer.tgt_lang is None:
            tokenizer.tgt_lang = tokenizer.src_lang
        return None

    def _problems(self, tokenizer: Any, codes: dict[str, int], needed: bool) -> list[str]:
        given = [code for code in (self.source, self.target) if code is not None]
        if not codes:
            return [f"{BOTH}: this model's tokenizer has no codes of languages; leave them out"] if given else []
        if _marks_sources(tokenizer) and self.source is not None:
            return [
                f"options.source_language: found {self.source!r}, but this model is only told the language that it "
                "translates into; leave it out"
            ]
        if not _marks_sources(tokenizer) and (len(given) == 1 or (needed and not given)):
            return [f"{BOTH}: this model needs both, as codes"]
        return [_unknown(code, codes) for code in given if code not in codes]

    def before_source(self, tokenizer: Any) -> str:
        """What each source begins with, such as `>>fra<< `; nothing for tokenizers that set their marks themselves."""
        return f">>{self.target}<< " if self.target is not None and _marks_sources(tokenizer) else ""

    def first_token(self, tokenizer: Any) -> int | None:
        """The id of the target's language that generation begins with, where the tokenizer has one."""
        if self.target is None or _marks_sources(tokenizer):
            return None
        return language_codes(tokenizer)[self.target]


def language_codes(tokenizer: Any) -> dict[str, int]:
    """The languages that a tokenizer can be told, each with the id of its token."""
    if _marks_sources(tokenizer):
        return {token[2:-2]: i for token, i in tokenizer.encoder.items() if token[:2] == ">>" and token[-2:] == "<<"}
    if not hasattr(tokenizer, "_switch_to_target_mode"):
        return {}
    if hasattr(tokenizer, "get_lang_id"):  # M2M100 writes the token of `de` as `__de__`
        return {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
    known = getattr(tokenizer, "lang_code_to_id", None)  # mBART; NLLB has its codes among all tokens
    if known is None:
        known = {token: i for token, i in tokenizer.get_vocab().items() if NLLB_CODE.fullmatch(token)}
    return {code: i for code, i in known.items() if i != tokenizer.unk_token_id}


def _marks_sources(tokenizer: Any) -> bool:
    return hasattr(tokenizer, "supported_language_codes")


def _several(codes: dict[str, int]) -> str:
    return (
        f"languages: this model translates into several ({shown(sorted(codes))}); unless each source begins with "
        f"a mark such as >>{min(codes)}<<, say which by options.target_language"
    )


def _unknown(code: str, codes: dict[str, int]) -> str:
    near = difflib.get_close_matches(code, codes, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {shown(sorted(codes))}"
    return f"options: the tokenizer has no language {code!r}; {hint}"
