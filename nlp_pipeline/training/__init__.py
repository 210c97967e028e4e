"""The training loop, optimization and checkpoints."""
