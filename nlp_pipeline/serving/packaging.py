"""A folder that runs a model at a host: the model, this package, exact requirements, and what the host calls."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import nlp_pipeline

from ..errors import ConfigError

PACKAGE = Path(nlp_pipeline.__file__).parent
HOSTS = Path(__file__).parent / "hosts"
DISTRIBUTION = "nlp-pipeline"
SERVING = ("fastapi", "httptools", "prometheus-client", "uvicorn", "uvloop")
"""The extra; only `docker` needs it, other hosts bring their server."""
SENTENCEPIECE = (".model", ".spm")
"""What the vocabularies of tokenizers that need that package end in."""
LAYOUTS = {
    # Where the model, this package and the host's files go.
    "docker": ("model", "nlp_pipeline", {"Dockerfile.txt": "Dockerfile"}),
    "inference-endpoint": (".", "nlp_pipeline", {"handler.py": "handler.py"}),
    "sagemaker": (".", "code/nlp_pipeline", {"inference.py": "code/inference.py"}),
}


def write_package(model: str, host: str, output: Path, trust_remote_code: bool = False) -> None:
    """Write the folder: the whole of it, or nothing.

    Args:
        model: a run directory, a model folder, or a registry version.
        host: a key of LAYOUTS.

    Raises:
        ConfigError: the folder is there already.
        NlpPipelineError: the model can't be found, or brings code that was not trusted.
    """
    from ..registry.pulling import resolve
    from ..saved_model import read_saved_config

    folder = read_saved_config(resolve(model), trust_remote_code)[1]
    if output.exists():
        raise ConfigError(f"--output: {output} is there already; choose a folder that isn't")
    output.parent.mkdir(parents=True, exist_ok=True)
    where, package, files = LAYOUTS[host]
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as aside:
        made = Path(aside) / "made"
        shutil.copytree(folder, made / where)
        shutil.copytree(PACKAGE, made / package, ignore=shutil.ignore_patterns("__pycache__"))
        for source, target in files.items():
            text = (HOSTS / source).read_text(encoding="utf-8")
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            (made / target).write_text(text.replace("{python}", version), encoding="utf-8")
        requirements = (made / next(iter(files.values()))).parent / "requirements.txt"
        requirements.write_text("".join(f"{line}\n" for line in pinned(host, folder)), encoding="utf-8")
        os.rename(made, output)


def pinned(host: str, model: Path) -> list[str]:
    """Exact versions, as they are installed here, of everything that the model needs at a host.

    Args:
        model: its folder.
    """
    named = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    roots = [one.name for one in named if one.marker is None or one.marker.evaluate({"extra": ""})]
    if any(path.suffix in SENTENCEPIECE for path in model.iterdir()):
        roots.append("sentencepiece")
    found = installed([*roots, *(SERVING if host == "docker" else ())])
    # A local version such as +cpu is of one index alone.
    return [f"{name}=={found[name].partition('+')[0]}" for name in sorted(found)]


def installed(roots: Iterable[str]) -> dict[str, str]:
    """The versions of some packages and of all that they need; of those that are installed."""
    found: dict[str, str] = {}
    waiting = [(name, frozenset[str]()) for name in roots]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            distribution = metadata.distribution(key)
        except metadata.PackageNotFoundError:
            continue
        if not key.startswith(("nvidia-", "cuda-", "triton")):  # torch names them itself, by its build
            found[key] = distribution.version
        for text in distribution.requires or ():
            needed = Requirement(text)
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras or ("",))
            if wanted:
                waiting.append((needed.name, frozenset(needed.extras)))
    return found
