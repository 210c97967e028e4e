"""Two versions compared by what their manifests say."""

from collections.abc import Mapping
from typing import Any

from .versions import Version

PARTS = ("task", "run", "data", "parent", "packages", "python")


def compare(one: Version, other: Version) -> dict[str, Any]:
    """`files` (name: `added`, `removed`, `changed`), `scores` and `lineage` (name: [one, other]) that differ."""
    names = sorted(one.files.keys() | other.files.keys())
    hashes = [{name: entry["sha256"] for name, entry in version.files.items()} for version in (one, other)]
    files = {name: _change(hashes[0].get(name), hashes[1].get(name)) for name in names}
    scores = [_flat((v.manifest.get("evaluation") or {}).get("scores") or {}) for v in (one, other)]
    lineage = [_flat({part: v.manifest.get(part) for part in PARTS}) for v in (one, other)]
    return {
        "one": str(one.address),
        "other": str(other.address),
        "files": {name: change for name, change in files.items() if change},
        "scores": _differences(*scores),
        "lineage": _differences(*lineage),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """What differs, a line each."""
    said = [f"{found['one']} and {found['other']}:"]
    said += [f"  {change:<8} {name}" for name, change in found["files"].items()]
    for name, (then, now) in found["scores"].items():
        both = isinstance(then, int | float) and isinstance(now, int | float)
        said.append(f"  {name}: {then} and {now}" + (f" ({now - then:+.4f})" if both else ""))
    said += [f"  {name}: {then} and {now}" for name, (then, now) in found["lineage"].items()]
    return said if len(said) > 1 else [f"{said[0]} equal in files, scores and lineage"]


def _change(then: str | None, now: str | None) -> str | None:
    if then == now:
        return None
    return "added" if then is None else "removed" if now is None else "changed"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}
    return {name: value}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = [*one, *(name for name in other if name not in one)]
    return {name: [one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)}
