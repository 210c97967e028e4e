"""Batches, optimizer, schedule, adapters, and what is kept to go on from."""

from typing import Annotated, Literal

from pydantic import Field

from .base import Section


class BatchConfig(Section):
    """How many rows make one optimizer step. The micro-batch and the accumulation follow from it and the devices."""

    size: int = Field(32, ge=1)
    """Rows per optimizer step over all devices together."""
    tokens: int | None = Field(None, ge=1)
    """Tokens per optimizer step over all devices, in place of `size`: for rows of very different length. The loss is
    the mean over all targets of the step either way."""
    micro: int | None = Field(None, ge=1)
    """Most rows per device in one forward pass; by default as many as the step needs, bounded by token count."""
    evaluation: int = Field(64, ge=1)
    """Rows per device in one forward pass at evaluation and prediction."""
    window: int = Field(8192, ge=1)
    """Rows that evaluation and prediction hold at once: read, sorted by length, run, written before the next ones."""
    sampling: Literal["auto", "random", "length_grouped"] = "auto"
    """`random` shuffles plainly; `length_grouped` puts rows of like length in a batch: less padding. `auto` is random
    where the model runs without padding, else grouped."""
    padding_free: bool | Literal["auto"] = "auto"
    """Run the model on real tokens only: the same result for less. `auto` where the architecture has such a form."""


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) in place of full fine-tuning, through peft."""

    r: int = Field(8, ge=1)
    """Rank."""
    alpha: int = Field(16, ge=1)
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapter."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter."""


class EarlyStopping(Section):
    """Stop when the best metric has not improved for a while."""

    patience: int = Field(3, ge=1)
    """Evaluations without improvement before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """Smallest change that counts as an improvement."""


class TrainingConfig(Section):
    """The optimizer, its schedule, and when to stop."""

    epochs: float = Field(3, gt=0)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps; wins over `epochs`."""
    learning_rate: float = Field(5e-5, gt=0, lt=1)
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """Course of the learning rate after warm-up."""
    warmup: float = Field(0.0, ge=0)
    """Warm-up: below 1 a share of all steps, from 1 on a number of steps."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay; never on biases and norm weights."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's decay rates of the moment estimates."""
    epsilon: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null turns clipping off."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target's mass spread over all classes (classification only)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    freeze: list[str] = Field(default_factory=list)
    """Parts that stay as they are: `embeddings`, `encoder`, `layers:N` (the lowest N), or a glob over parameter
    names such as `*.attention.*`."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate is multiplied by this once per layer from the head down."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes what `accelerate launch` was given, else bf16 where the device has
    it in hardware, else fp32. Weights and optimizer stay in fp32."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of initial weights, data order and dropout."""
    on_non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is no finite number, in fp32 neither: stop before the step and name the rows, or leave
    the batch out (ten times at most)."""
    early_stopping: EarlyStopping | None = None
    """Needs validation rows."""
    lora: LoraConfig | None = None
    """Train adapters instead of all the weights."""
    compact_vocabulary: bool | Literal["auto"] = "auto"
    """Train only the embedding rows that the training rows use: the same result for less. `auto`: where it pays."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the layers with torch.compile. `auto`: on CUDA, where the run is long enough to repay it."""
    verify_parity: bool = False
    """Compare the first batch's loss and gradient with those of the padded eager model, and stop if they differ."""
    peer_timeout: float = Field(60, gt=0)
    """Minutes that a process waits for the others before it gives the run up (they wait while the main one tokenizes).
    A process that dies on the same machine is noticed at once."""
    log_every: int = Field(10, ge=1)
    """Steps between reads of the loss (each read waits for the device)."""


class CheckpointConfig(Section):
    """What is kept to go on from."""

    every: int | None = Field(None, ge=1)
    """Also save every N steps, apart from evaluations."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept, so that there is one to fall back on; the best one is kept besides."""
    background: bool | Literal["auto"] = "auto"
    """Write while training goes on, from a copy in memory; `auto` does so on an accelerator."""
