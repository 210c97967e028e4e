"""A small Hugging Face Hub for tests: what huggingface_hub asks of one for model repositories, in memory.

`python -m registry.hub_server` is started as `http_service` says.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from urllib.parse import unquote

from registry.http_service import Refused, Service, serve

TOKEN = "hf_canaryHubTokenZq7"
LARGE = (".safetensors", ".bin")


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class File:
    """A file of a commit: its git hash, and its content or the SHA-256 of its large object."""

    def __init__(self, content=None, sha256=None, size=None):
        self.content, self.sha256 = content, sha256
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        self.size = len(content) if sha256 is None else size
        self.oid = git_hash(content if sha256 is None else pointer)
        self.pointer_size = len(pointer)

    def info(self, path):
        lfs = {"oid": self.sha256, "size": self.size, "pointerSize": self.pointer_size}
        return {"type": "file", "path": path, "oid": self.oid, "size": self.size} | (
            {"lfs": lfs} if self.sha256 else {}
        )


class Repo:
    def __init__(self, visibility):
        self.visibility, self.tags, self.branches, self.commits = visibility, {}, {}, {}
        self.commit("main", {".gitattributes": File(b"*.safetensors filter=lfs\n")}, "initial commit")

    def commit(self, branch, files, title):
        parent = self.branches.get(branch, "")
        listing = json.dumps([parent, title, sorted((path, file.oid) for path, file in files.items())])
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[oid] = {"files": files, "title": title, "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}
        self.branches[branch] = oid
        return oid

    def resolve(self, revision):
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        if found not in self.commits:
            raise Refused(404, "RevisionNotFound", f"no revision {revision}")
        return found


class Hub(Service):
    """Repositories and large objects."""

    def __init__(self):
        super().__init__()
        self.repos, self.objects = {}, {}

    def answer(self, method, path, query, headers, body, base):
        """(status, headers, body) of a request."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        token = (headers.get("Authorization") or "").removeprefix("Bearer ")
        if parts[0] == "objects":  # as a storage behind signed addresses: no token
            return self.store(parts[1], body)
        if path == "/api/validate-yaml":
            return 200, {}, {"errors": [], "warnings": []}
        if token != TOKEN:
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        if path == "/api/repos/create":
            return self.create(json.loads(body), base)
        if path == "/api/models":
            return (
                200,
                {},
                [{"id": name, "modelId": name} for name in self.repos if name.startswith(query["author"][0] + "/")],
            )
        if parts[0] == "api":
            return self.api(method, self.repo("/".join(parts[2:4])), parts[4:], query, body, base)
        if path.endswith(".git/info/lfs/objects/batch"):
            self.repo("/".join(parts[:2]).removesuffix(".git"))
            return 200, {}, self.batch(json.loads(body), base)
        return self.resolve(self.repo("/".join(parts[:2])), parts[3], "/".join(parts[4:]))

    def repo(self, name):
        if name not in self.repos:
            raise Refused(404, "RepoNotFound", f"no repository {name}")
        return self.repos[name]

    def create(self, asked, base):
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repos:
            raise Refused(409, message="You already created this model repo", url=f"{base}/{name}")
        self.repos[name] = Repo(asked.get("visibility", "public"))
        return 200, {}, {"url": f"{base}/{name}", "name": name}

    def api(self, method, repo, parts, query, body, base):
        if not parts or parts[0] == "revision":
            oid = repo.resolve(parts[1] if parts else "main")
            return 200, {}, {"id": "x/y", "modelId": "x/y", "sha": oid, "private": repo.visibility == "private"}
        what, rest = parts[0], parts[1:]
        if what == "refs":
            named = (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
            refs = {
                key: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in of.items()]
                for key, kind, of in named
            }
            return 200, {}, refs | {"converts": []}
        if what == "tree":
            files = repo.commits[repo.resolve(rest[0])]["files"]
            self.broken["hash"] = self.broken.get("hash", 0) - 1
            if self.broken["hash"] == 0:
                files = files | {"config.json": File(b"other bytes")}
            return 200, {}, [file.info(path) for path, file in files.items()]
        if what == "commits":
            found = [{"id": oid, "authors": [], "message": "", **commit} for oid, commit in repo.commits.items()]
            return 200, {}, [{key: value for key, value in commit.items() if key != "files"} for commit in found]
        if what == "preupload":
            files = repo.commits[repo.resolve(rest[0])]["files"]
            return 200, {}, {"files": [self.mode(asked, files) for asked in json.loads(body)["files"]]}
        if what == "commit":
            return 200, {}, self.commit(repo, rest[0], [json.loads(line) for line in body.splitlines()], base)
        if what == "tag":
            if method == "DELETE":
                del repo.tags[rest[0]]
                return 200, {}, {}
            name = json.loads(body)["tag"]
            if name in repo.tags:
                raise Refused(409, message="Tag reference exists already")
            repo.tags[name] = repo.resolve(rest[0])
            return 200, {}, {}
        assert what == "branch", parts
        asked = json.loads(body)
        if rest[0] in repo.branches and not asked.get("overwrite"):
            raise Refused(409, message="Reference already exists")
        repo.branches[rest[0]] = repo.resolve(asked["startingPoint"])
        return 200, {}, {}

    def mode(self, asked, files):
        mode = "lfs" if asked["path"].endswith(LARGE) else "regular"
        there = files.get(asked["path"])
        found = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
        return found | ({"oid": there.sha256 or there.oid} if there else {})

    def batch(self, asked, base):
        objects = []
        for wanted in asked["objects"]:
            upload = {"actions": {"upload": {"href": f"{base}/objects/{wanted['oid']}"}}}
            objects.append(wanted | ({} if wanted["oid"] in self.objects else upload))
        return {"transfer": "basic", "objects": objects}

    def store(self, sha256, body):
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Refused(400, message="not the content that was announced")
        self.objects[sha256] = body
        return 200, {"ETag": f'"{sha256}"'}, {}

    def commit(self, repo, branch, lines, base):
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.branches[branch]):
            raise Refused(412, message="A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[repo.branches[branch]]["files"])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refused(400, message=f"the large object {value['oid']} was not uploaded")
                files[value["path"]] = File(sha256=value["oid"], size=value["size"])
            else:
                files[value["path"]] = File(base64.b64decode(value["content"]))
        oid = repo.commit(branch, files, header["summary"])
        return {"commitUrl": f"{base}/x/y/commit/{oid}", "commitOid": oid, "success": True}

    def resolve(self, repo, revision, path):
        oid = repo.resolve(revision)
        file = repo.commits[oid]["files"].get(path)
        if file is None:
            raise Refused(404, "EntryNotFound", f"no file {path}")
        content = self.objects[file.sha256] if file.sha256 else file.content
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file.sha256 or file.oid}"'}
        if self.broken.get("content") == path:
            content = bytes([content[0] ^ 1]) + content[1:]
        return 200, headers, content


if __name__ == "__main__":
    serve(Hub())
