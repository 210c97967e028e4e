"""What of a finished run makes a version: the files of its model, and where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..run_directory import PACKAGES, RunDirectory, file_hash, folder_hash, read_json
from ..secrets import public

CARD = "README.md"
FROM_MANIFEST = ("started", "ended", "recipe_sha256", "seeds", "device", "processes", "precision", "git_commit")


@dataclass(frozen=True)
class Pack:
    """A version that is not published yet."""

    folder: Path
    """The run's model folder."""
    files: dict[str, dict[str, Any]]
    """`sha256` and `size` of each file, by name."""
    sample: Path
    about: dict[str, Any]
    """Lineage and scores."""

    def sources(self) -> dict[str, Path]:
        """Where the content of each blob lies, the sample's among them."""
        found = {entry["sha256"]: self.folder / name for name, entry in self.files.items()}
        return found | {self.about["sample"]["sha256"]: self.sample}


def pack_run(path: Path) -> Pack:
    """What a finished run gives to a registry.

    Raises:
        RegistryError: it isn't finished, or its weights are not those that were evaluated.
    """
    run = RunDirectory(path)
    manifest, results = read_json(run.manifest), read_json(run.results)
    recorded = manifest.get("model_files")
    if not isinstance(recorded, dict) or not results or not run.sample.is_file():
        missing = "sample.jsonl" if results and isinstance(recorded, dict) else "results.json"
        raise RegistryError(
            f"{path} is no finished run: there is no whole {missing} in it; run `nlp-pipeline train` again, which "
            "goes on where it stopped"
        )
    if links := [entry for entry in run.model.rglob("*") if entry.is_symlink()]:
        raise RegistryError(f"{link} is a symbolic link; put the file itself in its place" for link in links)
    hashes = folder_hash(run.model)
    changed = [name for name in recorded.keys() | hashes.keys() if recorded.get(name) != hashes.get(name)]
    if changed := sorted(name for name in changed if name != CARD):
        raise RegistryError(
            f"{run.model / name} is not as the run evaluated it; the scores would be those of another model. Train "
            "again, or put it back"
            for name in changed
        )
    files = {name: {"sha256": found, "size": (run.model / name).stat().st_size} for name, found in hashes.items()}
    return Pack(run.model, files, run.sample, _about(run, manifest, results))


def _about(run: RunDirectory, manifest: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    inputs = manifest.get("inputs") or {}
    lineage = {name: manifest[name] for name in ("run_id", *FROM_MANIFEST) if name in manifest}
    with open(run.sample, "rb") as file:
        rows = sum(1 for _ in file)
    sample = {"sha256": file_hash(run.sample), "size": run.sample.stat().st_size, "rows": rows}
    scores = {name: results.get(name) for name in ("split", "rows", "best_metric", "scores", "intervals", "confidence")}
    about: dict[str, Any] = public(
        {
            "task": results.get("task"),
            "run": {"name": run.path.resolve().name, **lineage},
            "data": inputs.get("data"),
            "parent": inputs.get("model"),
            "evaluation": scores | {"baseline": results.get("baseline")},
            "python": manifest.get("python"),
            "packages": {k: v for k, v in (manifest.get("packages") or {}).items() if k in PACKAGES},
        }
    )
    return about | {"sample": sample}
