"""A registry in the Hugging Face Hub: a model repository, in which a version is a commit that has a tag, `v1`, `v2`, ….

The commit holds the model's files, as `from_pretrained` wants them, and beside them `nlp-pipeline/version.json` and the
sample. An alias is a branch: the Hub moves one in a single request, which it does not do for tags, so that nobody ever
finds an alias missing. `from_pretrained("user/topics", revision="production")` reads it without this package.

A push that was killed leaves at most a commit without a tag, which the same push gives its tag when it is repeated;
files that had arrived are not sent again. The token is huggingface_hub's own business, and never seen here.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash

from ..errors import ConfigError, RegistryError
from .address import HUB, RESERVED, Address
from .packing import CARD
from .versions import MANIFEST, SAMPLE, Registry, Version, check_files, manifest_text, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

OURS_OR_THE_HUBS = (".gitattributes", CARD, MANIFEST)
"""What a repository that nobody pushed to may hold."""
ATTEMPTS = 50
CLIENT_ERRORS: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *HfHubHTTPError.__bases__)
"""The bases are those of its HTTP client, of which there have been several."""
CONFLICT, PRECONDITION_FAILED = 409, 412


class HubRegistry(Registry):
    """The model repositories of a user or an organisation."""

    def __init__(self, root: str) -> None:
        self.root, self.owner = root, root.removeprefix(HUB)
        self.api = HfApi()

    def models(self) -> list[str]:
        """As `Registry.models`: those whose card has the tag that every card of this package has."""
        with _said(self.root):
            found = [
                info.id.partition("/")[2] for info in self.api.list_models(author=self.owner, filter="nlp-pipeline")
            ]
        return sorted(name for name in found if self.numbers(name))

    def numbers(self, name: str) -> list[int]:
        """As `Registry.numbers`."""
        return sorted(self._commits(name))

    def aliases(self, name: str) -> dict[str, int]:
        """As `Registry.aliases`: branches whose newest commit is a version."""
        refs = self._refs(name)
        of = {commit: number for number, commit in _versions(refs).items()}
        heads = {branch.name: branch.target_commit for branch in refs.branches} if refs else {}
        return {name: of[head] for name, head in heads.items() if head in of and not RESERVED.fullmatch(name)}

    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """As `Registry.manifest`."""
        address = Address(self.root, name, number)
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-hub-") as folder:
            path = self._download(address, MANIFEST, Path(folder))
            content = path.read_bytes() if path else None
        if content is None:
            raise RegistryError(f"{address}: there is no such version{self._there(address)}")
        return read_manifest(content, address)

    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """As `Registry.publish`: a commit, then its tag once the Hub's hashes are those of the files."""
        files = {name: sources[entry["sha256"]] for name, entry in manifest["files"].items()}
        if CARD in files:
            check_card(files[CARD])
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-hub-") as folder, _said(address):
            about = Path(folder) / "version.json"
            about.write_bytes(manifest_text(manifest))
            files |= {MANIFEST: about, SAMPLE: sources[manifest["sample"]["sha256"]]}
            self.api.create_repo(self._repo(address.name), private=True, exist_ok=True)
            commit = self._commit(address, manifest, files)
            self._check(address, commit, files, manifest)
            number = self._tag(address.name, commit)
        return Version(address.at(number), self.manifest(address.name, number))

    def promote(self, version: Version, alias: str) -> int | None:
        """As `Registry.promote`, in one request: a branch is made or moved."""
        name = version.address.name
        before = self.alias(name, alias)
        with _said(version.address):
            url = f"{self.api.endpoint}/api/models/{self._repo(name)}/branch/{alias}"
            # HfApi.create_branch has no word for `overwrite`, which the Hub takes.
            moved = {"startingPoint": self._commits(name)[version.number], "overwrite": True}
            hf_raise_for_status(get_session().post(url, headers=build_hf_headers(), json=moved))
        return before

    def fetch(self, version: Version, folder: Path) -> None:
        """As `Registry.fetch`."""
        for name in version.files:
            self._download(version.address, name, folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's notes on its downloads
        check_files(folder, version.files, version.address)

    def fetch_sample(self, version: Version, target: Path) -> None:
        """As `Registry.fetch_sample`."""
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-hub-") as folder:
            if path := self._download(version.address, SAMPLE, Path(folder)):
                shutil.move(path, target)
        check_files(target.parent, {target.name: version.manifest["sample"]}, version.address)

    def _commit(self, address: Address, manifest: dict[str, Any], files: dict[str, Path]) -> str:
        """Commit the files, and nothing else, on top of `main`, or find that a killed push has done so."""
        repo = self._repo(address.name)
        for attempt in range(ATTEMPTS):
            refs = self._refs(address.name)
            assert refs is not None
            head = next(branch.target_commit for branch in refs.branches if branch.name == "main")
            there = self._files(repo, head)
            if MANIFEST not in there and (foreign := sorted(name for name in there if name not in OURS_OR_THE_HUBS)):
                raise ConfigError(
                    f"TARGET: found {address.model}, a repository with files that no push made ({foreign[0]}, …); "
                    "expected an empty or a new one: a version is the whole of its files. Choose another name"
                )
            if head not in _versions(refs).values() and self._left_by_a_kill(address, head, there, manifest):
                return head
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationAdd(name, path) for name, path in sorted(files.items())
            ]
            gone = there.keys() - files.keys() - {".gitattributes"}
            operations += [CommitOperationDelete(name, is_folder=False) for name in sorted(gone)]
            try:
                made = self.api.create_commit(
                    repo, operations, commit_message=_message(manifest), parent_commit=head
                )  # fmt: skip
            except HfHubHTTPError as error:
                if error.response.status_code not in (CONFLICT, PRECONDITION_FAILED) or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(random.random() * min(2.0, 0.1 * (attempt + 1)))  # another push was faster
                continue
            return str(made.oid)
        raise AssertionError

    def _left_by_a_kill(
        self, address: Address, head: str, there: "dict[str, RepoFile]", manifest: dict[str, Any]
    ) -> bool:
        """Whether `main` is what this push would make it, but for the time."""
        if MANIFEST not in there:
            return False
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-hub-") as folder:
            path = self.api.hf_hub_download(self._repo(address.name), MANIFEST, revision=head, local_dir=folder)
            try:
                found = read_manifest(Path(path).read_bytes(), address)
            except RegistryError:
                return False
        ours = read_manifest(manifest_text(manifest), address)
        return {**found, "created": None} == {**ours, "created": None}

    def _check(self, address: Address, commit: str, files: dict[str, Path], manifest: dict[str, Any]) -> None:
        """Compare what the Hub has in a commit with the files: SHA-256 of large files, git's hash of the others."""
        there = self._files(self._repo(address.name), commit)
        hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        hashes |= {SAMPLE: manifest["sample"]["sha256"]}
        problems = [f"{name} is not in it" for name in files if name not in there]
        for name in (hashes.keys() & there.keys()) - set(problems):
            file = there[name]
            same = file.lfs.sha256 == hashes[name] if file.lfs else file.blob_id == git_hash(files[name].read_bytes())
            problems += [] if same else [f"{name} has another hash there"]
        problems += [
            f"{name} is none of the model's" for name in there if name not in files and name != ".gitattributes"
        ]
        if problems:
            raise RegistryError(
                f"{address.model}: commit {commit[:12]} is not what was sent: {problem}; it got no tag. Push again"
                for problem in problems
            )

    def _tag(self, name: str, commit: str) -> int:
        """Give a commit the next number that is free."""
        number = max(self.numbers(name), default=0) + 1
        while True:
            try:
                self.api.create_tag(self._repo(name), tag=f"v{number}", revision=commit)
            except HfHubHTTPError as error:
                if error.response.status_code != CONFLICT:
                    raise
                number += 1
            else:
                return number

    def _repo(self, name: str) -> str:
        return f"{self.owner}/{name}"

    def _refs(self, name: str) -> Any:
        """Branches and tags; None where there is no such repository."""
        with _said(f"{self.root}/{name}"):
            try:
                return self.api.list_repo_refs(self._repo(name))
            except RepositoryNotFoundError:
                return None

    def _commits(self, name: str) -> dict[int, str]:
        """The commit of each version."""
        return _versions(self._refs(name))

    def _files(self, repo: str, revision: str) -> "dict[str, RepoFile]":
        from huggingface_hub import RepoFile

        found = self.api.list_repo_tree(repo, recursive=True, revision=revision)
        return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}

    def _download(self, address: Address, name: str, folder: Path) -> Path | None:
        """Download a file of a version; None where there is no such file, version or repository."""
        repo, revision = self._repo(address.name), f"v{address.version}"
        with _said(address):
            try:
                return Path(self.api.hf_hub_download(repo, name, revision=revision, local_dir=folder))
            except (RemoteEntryNotFoundError, RevisionNotFoundError, RepositoryNotFoundError):
                return None

    def _there(self, address: Address) -> str:
        return super()._there(address) or ", or the token at hand may not read it (HF_TOKEN, or `hf auth login`)"


def check_card(card: Path) -> None:
    """Read a model card as the Hub does.

    Raises:
        RegistryError: its metadata would be refused.
    """
    try:
        ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=False)
    except Exception as error:  # whatever YAML and the classes of the card's parts raise
        raise RegistryError(
            f"{card} has metadata that the Hub doesn't take: {error}; mend the lines between ---"
        ) from None


def _versions(refs: Any) -> dict[int, str]:
    """The commit of each version, of what `list_repo_refs` gave."""
    tags = refs.tags if refs else []
    return {int(tag.name[1:]): tag.target_commit for tag in tags if tag.name[:1] == "v" and tag.name[1:].isdigit()}


def _message(manifest: dict[str, Any]) -> str:
    evaluation = manifest.get("evaluation") or {}
    best = evaluation.get("best_metric")
    score = (evaluation.get("scores") or {}).get(best)
    return f"{manifest['run']['name']}" + (f": {best} {score:.4f}" if isinstance(score, float) else "")


@contextmanager
def _said(where: object) -> Iterator[None]:
    """What the client raises, in a message."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise RegistryError(f"{where}: the Hub is not asked while HF_HUB_OFFLINE is set; unset it") from None
    except LocalEntryNotFoundError as error:
        raise RegistryError(f"{where}: the Hub can't be reached: {str(error).splitlines()[0]}") from None
    except HFValidationError as error:
        raise ConfigError(f"{where}: the Hub takes no such name: {error}") from None
    except CLIENT_ERRORS as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = "; is the token right (HF_TOKEN, or `hf auth login`), and may it write?" if status in (401, 403) else ""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RegistryError(f"{where}: the Hub said: {' '.join(lines)[:300]}{hint}") from None
