"""Hugging Face Inference Endpoints: https://huggingface.co/docs/inference-endpoints/guides/custom_handler."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # nlp_pipeline lies beside this file


class EndpointHandler:
    """What the host calls."""

    def __init__(self, path: str = "") -> None:
        from nlp_pipeline.serving.answering import Answering

        self.answering = Answering(path or HERE)

    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer a request: `inputs`, and perhaps `parameters`."""
        return self.answering(data)
