"""The JSON Schema of recipe files, with each task's own options."""

from typing import Any

from .schema import Config


def recipe_schema() -> dict[str, Any]:
    """Config's schema; `options` follows the task that the recipe names."""
    from ..tasks import TASKS, task_class

    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "nlp-pipeline recipe"
    schema["properties"]["task"]["examples"] = list(TASKS)
    schema["allOf"] = [
        {
            "if": {"properties": {"task": {"const": task}}, "not": {"required": ["recipe"]}},
            "then": {"properties": {"options": task_class(task).Options.model_json_schema()}},
        }
        for task in TASKS
    ]
    for name in ("model", "registry"):  # may be given by its name or address alone
        schema["properties"][name] = {"anyOf": [{"type": "string"}, schema["properties"][name]]}
    names = schema["$defs"]["TrackingConfig"]["properties"]["to"]
    short = [names["items"], {"type": "array", "items": names["items"]}]
    schema["properties"]["tracking"] = {"anyOf": [*short, schema["properties"]["tracking"]]}
    return schema
