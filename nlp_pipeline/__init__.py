"""Fine-tune language models: from a data file to a trained, evaluated, packaged model.

Public names load when they are first used: importing the package imports neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config, load_config
    from .errors import CheckpointError, ConfigError, DataError, ModelError, NlpPipelineError
    from .recipe import Recipe
    from .tasks.causal_language_modeling import CausalLanguageModeling
    from .tasks.few_shot_classification import FewShotClassification
    from .tasks.instruction_tuning import InstructionTuning
    from .tasks.masked_language_modeling import MaskedLanguageModeling
    from .tasks.multiple_choice import MultipleChoice
    from .tasks.preference_tuning import PreferenceTuning
    from .tasks.question_answering import QuestionAnswering
    from .tasks.reranking import Reranking
    from .tasks.sentence_embedding import SentenceEmbedding
    from .tasks.summarization import Summarization
    from .tasks.text_classification import TextClassification
    from .tasks.text_to_text import TextToText
    from .tasks.token_classification import TokenClassification
    from .tasks.translation import Translation

__version__ = "0.1.0"

_PLACES = {
    "Config": "config",
    "load_config": "config",
    "Recipe": "recipe",
    "CausalLanguageModeling": "tasks.causal_language_modeling",
    "FewShotClassification": "tasks.few_shot_classification",
    "InstructionTuning": "tasks.instruction_tuning",
    "MaskedLanguageModeling": "tasks.masked_language_modeling",
    "MultipleChoice": "tasks.multiple_choice",
    "PreferenceTuning": "tasks.preference_tuning",
    "QuestionAnswering": "tasks.question_answering",
    "Reranking": "tasks.reranking",
    "Summarization": "tasks.summarization",
    "TextToText": "tasks.text_to_text",
    "Translation": "tasks.translation",
    "SentenceEmbedding": "tasks.sentence_embedding",
    "TextClassification": "tasks.text_classification",
    "TokenClassification": "tasks.token_classification",
    "NlpPipelineError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "ModelError": "errors",
    "CheckpointError": "errors",
}
__all__ = [
    "CausalLanguageModeling",
    "CheckpointError",
    "Config",
    "ConfigError",
    "DataError",
    "FewShotClassification",
    "InstructionTuning",
    "MaskedLanguageModeling",
    "ModelError",
    "MultipleChoice",
    "NlpPipelineError",
    "PreferenceTuning",
    "QuestionAnswering",
    "Recipe",
    "Reranking",
    "SentenceEmbedding",
    "Summarization",
    "TextClassification",
    "TextToText",
    "TokenClassification",
    "Translation",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
