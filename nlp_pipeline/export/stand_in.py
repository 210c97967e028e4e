"""What stands where a transformers model stands in prediction."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch


class StandIn(torch.nn.Module):
    """Called with the tensors of a padded batch by name, it gives an object with the model's outputs by name.

    A subclass writes `answer`. It has no weights that torch knows of, and computes in float32 whatever the precision.
    """

    exact = True
    """There is no coarser arithmetic to try first."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        """The transformers config, with the label names."""
        self.head = torch.nn.Identity()

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name: `logits`, or `start_logits` and `end_logits`."""
        raise NotImplementedError

    def forward(self, **inputs: torch.Tensor) -> Any:
        """The outputs as attributes."""
        found = self.answer(inputs)
        if "logits" in found:
            found["logits"] = self.head(found["logits"])
        return SimpleNamespace(**found)

    def get_output_embeddings(self) -> torch.nn.Module:
        """Where `modeling.heads.logits_at` takes hold of a language model's last layer: here, of the logits."""
        return self.head
