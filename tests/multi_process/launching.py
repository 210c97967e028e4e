"""Starting a program under `accelerate launch` on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TRAIN, PREDICT = (REPOSITORY / "scripts" / name for name in ("train.py", "predict.py"))


def command(script, processes, *words, fsdp=False):
    """The command line. The number of processes stands in the settings file for one, in an option for more."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    name = "cpu.yaml" if processes == 1 else f"cpu_2_processes{'_fsdp' * fsdp}.yaml"
    number = [] if processes == 1 else ["--num_processes", str(processes)]
    return [*launch, str(REPOSITORY / "accelerate_configs" / name), *number, str(script), *map(str, words)]


def launch(script, processes, *words, timeout=280, fsdp=False, given=None):
    """Run it to its end; each process has one thread, as the launcher gives to several."""
    return subprocess.run(
        command(script, processes, *words, fsdp=fsdp), capture_output=True, text=True, timeout=timeout, input=given,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
