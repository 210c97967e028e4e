"""Memory and processor time of the training process, read from outside it."""

import subprocess
import time
from typing import Any

INTERVAL = 15.0
"""Seconds between two readings."""


class ProcessFigures:
    """Figures of a process by its number; nothing where psutil isn't installed or the process has ended."""

    def __init__(self, process: int) -> None:
        self.process, self.due = process, 0.0
        self.known = self._open()

    def _open(self) -> Any:
        try:
            import psutil

            return psutil.Process(self.process)
        except Exception:
            return None

    def read(self) -> dict[str, float]:
        """`system/memory_mib`, `…/cpu_percent` and `…/gpu_memory_mib`; empty before the interval has passed."""
        if self.known is None or time.monotonic() < self.due:
            return {}
        self.due = time.monotonic() + INTERVAL
        try:
            figures = {
                "system/memory_mib": self.known.memory_info().rss / 2**20,
                "system/cpu_percent": self.known.cpu_percent(),
            }
        except Exception:
            return {}
        return figures | self._gpu()

    def _gpu(self) -> dict[str, float]:
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
            used = [
                float(m) for pid, m in (line.split(",") for line in answer.splitlines()) if int(pid) == self.process
            ]
        except (OSError, ValueError, subprocess.SubprocessError):
            return {}
        return {"system/gpu_memory_mib": sum(used)} if used else {}
