"""Finished runs in the forms that other runtimes take: checked against the PyTorch model before they are there."""
