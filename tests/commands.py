"""Commands of `nlp-pipeline`, run in the test's own process."""

from nlp_pipeline.cli import main


def call(*arguments):
    """Run a command; returns its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code or 0
    return 0
