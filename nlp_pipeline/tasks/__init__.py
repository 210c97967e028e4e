"""The tasks, by the Hub's pipeline tag. A task's module is imported when it is named."""

import difflib
import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..secrets import MissingVariableError, expanded_path

if TYPE_CHECKING:
    from ..recipe import Recipe

TASKS = {
    "text-classification": "text_classification:TextClassification",
    "token-classification": "token_classification:TokenClassification",
    "multiple-choice": "multiple_choice:MultipleChoice",
    "text-ranking": "reranking:Reranking",
    "sentence-similarity": "sentence_embedding:SentenceEmbedding",
    "few-shot-classification": "few_shot_classification:FewShotClassification",
    "text-generation": "causal_language_modeling:CausalLanguageModeling",
    "instruction-tuning": "instruction_tuning:InstructionTuning",
    "preference-tuning": "preference_tuning:PreferenceTuning",
    "fill-mask": "masked_language_modeling:MaskedLanguageModeling",
    "summarization": "summarization:Summarization",
    "translation": "translation:Translation",
    "text2text-generation": "text_to_text:TextToText",
    "question-answering": "question_answering:QuestionAnswering",
}


def recipe_class(config: Any) -> "type[Recipe]":
    """The Recipe class of a config: the user's own file if `recipe` names one, else the task's.

    Raises:
        ConfigError: no such task, file or class.
    """
    if config.recipe:
        return _from_file(config.recipe)
    return task_class(config.task)


def task_class(task: str) -> "type[Recipe]":
    """The built-in Recipe class of a task."""
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"task: found {task!r}; {hint}The tasks are {', '.join(TASKS)}")
    module, _, name = TASKS[task].partition(":")
    found: type[Recipe] = getattr(importlib.import_module(f".{module}", __package__), name)
    return found


def _from_file(place: str) -> "type[Recipe]":
    from ..recipe import Recipe

    path, _, name = place.rpartition(":")
    try:
        file = expanded_path(path)
    except MissingVariableError as error:
        raise ConfigError(f"recipe: {error}") from None
    if not name.isidentifier() or file.suffix != ".py":
        raise ConfigError(f"recipe: found {place!r}, expected path/to/file.py:ClassName")
    if not os.path.isfile(file):
        raise ConfigError(f"recipe: there is no file {file}")
    module_name = f"nlp_pipeline_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # inspect.getsource finds a class through its module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"recipe: {file} can't be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise ConfigError(f"recipe: {file} has no Recipe class named {name}")
    return found
