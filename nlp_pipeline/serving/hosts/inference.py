"""SageMaker's containers for Hugging Face and PyTorch: https://sagemaker.readthedocs.io/en/stable/frameworks/pytorch."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # nlp_pipeline lies beside this file
JSON = "application/json"


def model_fn(model_dir: str) -> Any:
    """Load the model."""
    from nlp_pipeline.serving.answering import Answering

    return Answering(model_dir)


def input_fn(request_body: str | bytes, content_type: str = JSON) -> Any:
    """A request's body as Python objects."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise ValueError(f"found the content type {content_type!r}, expected {JSON}")
    return json.loads(request_body)


def predict_fn(data: Any, model: Any) -> Any:
    """The answer."""
    return model(data)


def output_fn(prediction: Any, accept: str = JSON) -> str:
    """The answer as the body of a response."""
    return json.dumps(prediction, ensure_ascii=False)
