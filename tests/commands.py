"""Commands of `nlp-pipeline`, run in the test's own process, and programs under `accelerate launch`."""

import subprocess
import sys
from pathlib import Path

from nlp_pipeline.cli import main

REPOSITORY = Path(__file__).parents[1]


def call(*arguments):
    """Run a command; returns its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code or 0
    return 0


def launch(script, processes, *arguments, given=None):
    """A program of scripts/ in one or two processes."""
    config = REPOSITORY / "accelerate_configs" / ("cpu_2_processes.yaml" if processes == 2 else "cpu.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    return subprocess.run(
        [*command, str(REPOSITORY / "scripts" / script), *map(str, arguments)],
        input=given, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
