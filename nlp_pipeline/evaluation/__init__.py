"""Evaluation: prediction, metrics, intervals and the report."""
