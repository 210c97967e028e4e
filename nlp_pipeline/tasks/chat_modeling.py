"""What instruction and preference tuning have in common: conversations, written by a chat template."""

import os
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import Section
from ..data.chat import PLAIN, reply_ends
from ..data.fields import IGNORED, Field
from ..data.labels import column
from ..data.messages import conversation_problems
from ..errors import ConfigError
from ..evaluation.usage import pipeline_code
from ..secrets import expanded_path
from .language_modeling import LanguageModeling

if TYPE_CHECKING:
    import datasets


class ChatModeling(LanguageModeling):
    """Tokens of conversations, of which the assistant's count; `labels` hold the token that follows, or IGNORED."""

    pipeline_tag = "text-generation"
    auto_model = "AutoModelForCausalLM"
    lora_task_type = "CAUSAL_LM"
    replies: ClassVar[tuple[str, ...]]
    """The columns that hold replies."""

    class Options(Section):
        """Settings of tasks on conversations."""

        chat_template: str | None = None
        """How conversations are written: a Jinja template, or a file that holds one; by default the tokenizer's own,
        else a plain one: a line a message, the assistant's up to the end of text."""

    options: Any

    def ready_tokenizer(self, tokenizer: Any) -> None:
        """Give it the recipe's template, else a plain one if it has none; a saved model keeps what it has."""
        given = self.options.chat_template
        if given is not None and not (self._model_folder and tokenizer.chat_template):
            tokenizer.chat_template = read_template(given)
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN
            self.reporter.say(
                "chat template: the tokenizer has none; conversations are written plainly, a line a message and the "
                "end of text after the assistant's"
            )

    def ready_model(self, model: Any) -> None:
        """What is saved ends its replies where training did, whoever generates them."""
        if getattr(model, "generation_config", None) is not None:
            model.generation_config.update(**self.reply_marks())

    def reply_marks(self) -> dict[str, Any]:
        """Entries of transformers' GenerationConfig."""
        return {"eos_token_id": self.ends() or None, "pad_token_id": self.pad_token_id}

    def ends(self) -> list[int]:
        """The ids that end a reply."""
        return reply_ends(self.encoder.tokenizer)

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Conversations in which the assistant says nothing, or not last."""
        there = [name for name in self.replies if name in rows.column_names]
        prompts = column(rows, "prompt") if "prompt" in rows.column_names else [None] * len(rows)
        replies = {name: column(rows, name) for name in there}
        return conversation_problems(prompts, replies, column(rows, "row_id"), split)

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and the one after each where it is the assistant's."""
        return Field("input_ids", pad=self.pad_token_id), Field("labels", pad=IGNORED, target=True)

    def usage(self) -> str:
        """Generation."""
        asked = '[{"role": "user", "content": "a question of your own"}]'
        return pipeline_code("text-generation", "generate", f"{asked}, max_new_tokens=100")


def read_template(given: str) -> str:
    """A Jinja template as it is, or from its file.

    Raises:
        ConfigError: no such file.
    """
    if "{{" in given or "{%" in given:
        return given
    if not os.path.isfile(path := expanded_path(given)):
        raise ConfigError(
            f"options.chat_template: found {given!r}, which is neither a file nor a Jinja template; expected one, or "
            "leave it out for the tokenizer's own"
        )
    return path.read_text(encoding="utf-8")
