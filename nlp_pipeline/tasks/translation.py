"""Translation by an encoder-decoder of two languages or of many."""

from typing import Any

from ..config import Config
from ..errors import ConfigError
from .sequence_to_sequence import SequenceToSequence


class Translation(SequenceToSequence):
    """Texts in another language; models of many languages are told which by the marks of their tokenizer."""

    task = "translation"
    summary = "a text in another language"
    source_names = ("text", "sentence1", "src")
    target_names = ("translation", "sentence2", "tgt")

    class Options(SequenceToSequence.Options):
        """Settings of translation."""

        source_language: str | None = None
        """Code of the source's language, as the tokenizer of a model of many languages has it: `eng_Latn`, `en_XX`."""
        target_language: str | None = None
        """Code of the target's language."""

    options: Options

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """One language without the other."""
        problems = super().check_options(config, options)
        if (options.source_language is None) != (options.target_language is None):
            problems.append("options: found one of source_language and target_language, expected both or neither")
        return problems

    def ready_tokenizer(self, tokenizer: Any) -> None:
        """Tell a tokenizer of many languages which two."""
        wanted = self.options.source_language, self.options.target_language
        if not hasattr(tokenizer, "_switch_to_target_mode"):
            if any(wanted):
                raise ConfigError(
                    "options.source_language: this model's tokenizer has no codes of languages; leave both out"
                )
            return
        if not all(wanted):
            raise ConfigError("options.source_language, options.target_language: this model needs both, as codes")
        unknown = [name for name in wanted if tokenizer.convert_tokens_to_ids(name) in (None, tokenizer.unk_token_id)]
        if unknown:
            raise ConfigError(f"options: the tokenizer has no language {', '.join(map(repr, unknown))}")
        tokenizer.src_lang, tokenizer.tgt_lang = wanted
        self._for_targets(tokenizer, False)

    def _for_targets(self, tokenizer: Any, wanted: bool) -> None:
        if self.options.target_language is not None:
            (tokenizer._switch_to_target_mode if wanted else tokenizer._switch_to_input_mode)()

    def generation_entries(self) -> dict[str, Any]:
        """The first token is the language, where there are many."""
        code = self.options.target_language
        first = None if code is None else self.encoder.tokenizer.convert_tokens_to_ids(code)
        return {**super().generation_entries(), "forced_bos_token_id": first}
