"""Base models in 4 bits under adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): bitsandbytes, on CUDA."""

from typing import Any

from ..errors import ConfigError

FOUR_BITS: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
"""NormalFloat4 with quantized scales, products in bfloat16: the paper's settings."""


def check_device() -> None:
    """Refuse what only CUDA can run.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "model.quantization: 4bit needs a CUDA device, and none was found here; leave it out to train the adapters "
            "on the whole model (training.lora alone), or run this recipe on a machine with one"
        )


def loading_options() -> dict[str, Any]:
    """What `from_pretrained` is given beside the rest: how to quantize, and the one device to do it on."""
    import torch
    from transformers import BitsAndBytesConfig

    check_device()
    settings = BitsAndBytesConfig(**FOUR_BITS)
    return {"quantization_config": settings, "device_map": {"": torch.cuda.current_device()}}
