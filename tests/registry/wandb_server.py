"""A small Weights & Biases for tests: what its client asks of one for runs and artifacts of type model, in memory.

`python -m registry.wandb_server` is started as `http_service` says.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import quote, unquote

from registry.http_service import Refused, Service, serve

KEY = "canaryWandbKey" + "Zq7" * 10
ENTITY = "me"
SECRETS = (KEY, str(Path(__file__).parents[2]))
"""What no request may have in its body: this machine's paths are nobody's business."""
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")
NOW = "2026-01-01T00:00:00Z"


def connection(nodes, **more):
    page = {"__typename": "PageInfo", "endCursor": "", "hasNextPage": False}
    return {"totalCount": len(nodes), "pageInfo": page, "edges": [{"node": node} for node in nodes], **more}


def project(entity, name):
    return {"id": "project", "internalId": "1", "name": name, "entity": {"name": entity}}


class Artifact:
    """A version, or one that is still waited for."""

    def __init__(self, number, asked):
        self.id, self.asked, self.index, self.aliases = f"artifact-{number}", asked, None, set()
        self.manifest, self.files = None, {}


class Wandb(Service):
    """Runs, collections of artifacts and the contents of files."""

    def __init__(self):
        super().__init__()
        self.collections, self.artifacts, self.objects = {}, {}, {}

    def answer(self, method, path, query, headers, body, base):
        """(status, headers, body) of a request."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        for secret in SECRETS:
            assert secret.encode() not in body, secret
        if parts[0] == "objects":  # as a storage behind signed addresses: no key
            return self.store(method, parts[1], headers, body)
        if headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            raise Refused(401, message="user is not logged in")
        if parts[-1] == "file_stream":
            return 200, {}, {}
        assert path == "/graphql", path
        asked = json.loads(body)
        name, variables = OPERATION.search(asked["query"])[1], asked.get("variables") or {}
        self.log[-1][1] = name
        self.base = base
        if name == self.broken.get("refused"):
            raise Refused(400, message="permission denied", errors=[{"message": "permission denied"}])
        return 200, {}, {"data": getattr(self, name)(variables)}

    def store(self, method, key, headers, body):
        if method == "PUT":
            if self.broken.get("upload") == key.rpartition("|")[2]:
                body = b"other bytes"
            if base64.b64encode(hashlib.md5(body).digest()).decode() != headers["Content-MD5"]:
                raise Refused(400, message="BadDigest")
            self.objects[key] = body
            return 200, {}, {}
        if key not in self.objects:
            raise Refused(404, message="there is no such object")
        content = self.objects[key]
        if self.broken.get("content") == key.rpartition("|")[2]:
            content = bytes([content[0] ^ 1]) + content[1:]
        return 200, {}, content

    def url(self, key):
        return f"{self.base}/objects/{quote(key, safe='')}"

    # Of the login.

    def Viewer(self, _):
        user = {"id": "user", "entity": ENTITY, "username": ENTITY, "email": "me@example.org", "flags": "{}"}
        return {"viewer": user | {"name": ENTITY, "admin": False, "teams": connection([])}}

    GetViewer = GetDefaultEntity = Viewer

    def ServerFeaturesQuery(self, _):
        return {"serverInfo": {"features": []}}

    # Of runs.

    def UpsertBucket(self, asked):
        gathered = {name for name in ("host", "commit", "repo") if asked.get(name)}
        assert not gathered, gathered
        at = project(asked.get("entity") or ENTITY, asked["project"])
        return {
            "upsertBucket": {
                "inserted": True,
                "bucket": {
                    "id": asked["name"],
                    "name": asked["name"],
                    "displayName": asked.get("displayName") or asked["name"],
                    "description": "",
                    "config": "{}",
                    "sweepName": "",
                    "project": at,
                    "historyLineCount": 0,
                },
            }
        }

    def CreateRunFiles(self, asked):
        files = [{"name": name, "uploadUrl": self.url(f"{asked['run']}|{name}")} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    # Of artifacts that are written.

    def CreateArtifact(self, asked):
        asked = asked["input"]
        made = Artifact(len(self.artifacts), asked)
        self.artifacts[made.id] = made
        latest = [{"id": one.id, "versionIndex": one.index} for one in self.collections.get(self.place(asked), [])]
        sequence = {"id": "sequence", "latestArtifact": latest[-1] if latest else None}
        return {"createArtifact": {"artifact": {"id": made.id, "state": "PENDING", "artifactSequence": sequence}}}

    def place(self, asked):
        return (asked["entityName"], asked["projectName"], asked["artifactCollectionName"])

    def CreateArtifactManifest(self, asked):
        self.artifacts[asked["artifactID"]].manifest = key = f"{asked['artifactID']}|wandb_manifest.json"
        file = {"id": "file", "name": asked["name"], "displayName": asked["name"]}
        file |= self.upload(key, asked["digest"]) if asked["includeUpload"] else {}
        return {"createArtifactManifest": {"artifactManifest": {"id": asked["artifactID"], "file": file}}}

    def UpdateArtifactManifest(self, asked):
        key = self.artifacts[asked["artifactManifestID"]].manifest
        file = {"id": "file", "name": "x", "displayName": "x"} | self.upload(key, asked["digest"])
        return {"updateArtifactManifest": {"artifactManifest": {"id": asked["artifactManifestID"], "file": file}}}

    def CreateArtifactFiles(self, asked):
        nodes = []
        for spec in asked["input"]["artifactFiles"]:
            artifact, key = self.artifacts[spec["artifactID"]], f"{spec['artifactID']}|{spec['name']}"
            artifact.files[spec["name"]] = key
            node = {"id": key, "name": spec["name"], "displayName": spec["name"], "artifact": {"id": artifact.id}}
            nodes.append(node | {"storagePath": key, "uploadMultipartUrls": None} | self.upload(key, spec["md5"]))
        return {"createArtifactFiles": {"files": connection(nodes)}}

    def upload(self, key, md5):
        return {"uploadUrl": self.url(key), "uploadHeaders": [f"Content-MD5:{md5}"]}

    def CommitArtifact(self, asked):
        """The version and its aliases, at once."""
        artifact = self.artifacts[asked["artifactID"]]
        manifest = json.loads(self.objects[artifact.manifest])["contents"]
        assert set(manifest) == set(artifact.files)
        assert all(key in self.objects for key in artifact.files.values()), "files that did not arrive"
        there = self.collections.setdefault(self.place(artifact.asked), [])
        artifact.index = len(there)
        there.append(artifact)
        for alias in ["latest", *(found["alias"] for found in artifact.asked.get("aliases") or [])]:
            self.move(artifact, alias)
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.asked["digest"]}}}

    def move(self, artifact, alias):
        for other in self.collections[self.place(artifact.asked)]:
            other.aliases.discard(alias)
        artifact.aliases.add(alias)

    def AddAliases(self, asked):
        for found in asked["input"]["aliases"]:
            self.move(self.artifacts[asked["input"]["artifactID"]], found["alias"])
        return {"result": {"success": True}}

    def UpdateArtifact(self, asked):
        return {"result": {"artifact": self.described(self.artifacts[asked["input"]["artifactID"]])}}

    # Of artifacts that are read.

    def described(self, artifact):
        entity, in_project, name = self.place(artifact.asked)
        sequence = {"__typename": "ArtifactSequence", "name": name, "project": project(entity, in_project)}
        aliases = [
            {"__typename": "ArtifactAlias", "id": alias, "alias": alias, "artifactCollection": sequence}
            for alias in sorted(artifact.aliases)
        ]
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": sequence,
            "versionIndex": artifact.index,
            "artifactType": {"name": artifact.asked["artifactTypeName"]},
            "description": None,
            "metadata": artifact.asked.get("metadata"),
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "PENDING" if artifact.index is None else "COMMITTED",
            "size": 1,
            "digest": artifact.asked["digest"],
            "commitHash": None,
            "fileCount": len(artifact.files),
            "createdAt": NOW,
            "updatedAt": NOW,
            "aliases": aliases,
        }

    def ArtifactType(self, asked):
        found = self.collections.get((asked["entity"], asked["project"], asked["name"].partition(":")[0]))
        kind = {"artifactType": {"name": found[0].asked["artifactTypeName"]}} if found else None
        return {"project": {"artifact": kind}}

    def ArtifactByID(self, asked):
        return {"artifact": self.described(self.artifacts[asked["id"]])}

    def in_type(self, asked, **what):
        """What is asked of a type; nothing where the project has none of it."""
        there = [
            name for (entity, in_project, name), found in self.collections.items()
            if (entity, in_project) == (asked["entity"], asked["project"])
            and found[0].asked["artifactTypeName"] == asked["type"]
        ]  # fmt: skip
        return {"project": {"artifactType": what if there else None}} if there else {"project": None}

    def collection(self, entity, in_project, name):
        return {
            "__typename": "ArtifactSequence",
            "id": name,
            "name": name,
            "description": None,
            "createdAt": NOW,
            "updatedAt": NOW,
            "project": project(entity, in_project),
            "type": {"name": "model"},
            "tags": connection([]),
        }

    def found(self, asked, key):
        return self.collections.get((asked["entity"], asked["project"], asked[key]), [])

    def ProjectArtifactCollection(self, asked):
        there = self.found(asked, "name")
        what = self.collection(asked["entity"], asked["project"], asked["name"]) if there else None
        return self.in_type(asked, artifactCollection=what)

    def ArtifactTypeArtifactCollections(self, asked):
        nodes = [
            self.collection(*place) for place in self.collections if place[:2] == (asked["entity"], asked["project"])
        ]
        return self.in_type(asked, artifactCollections=connection(nodes))

    def ProjectArtifacts(self, asked):
        there = self.found(asked, "collection")
        listed = connection([self.described(artifact) for artifact in there])
        for edge in listed["edges"]:
            edge["version"] = f"v{edge['node']['versionIndex']}"
        what = {"__typename": "ArtifactSequence", "artifacts": listed}
        return self.in_type(asked, artifactCollection=what if there else None)

    def ArtifactMembershipByName(self, asked):
        name, _, alias = asked["name"].partition(":")
        (artifact,) = (a for a in self.found(asked | {"name": name}, "name") if alias in {f"v{a.index}", *a.aliases})
        described = self.described(artifact)
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": artifact.id,
            "versionIndex": artifact.index,
            "createdAt": NOW,
            "aliases": described["aliases"],
            "artifactCollection": described["artifactSequence"],
            "artifact": described,
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def ArtifactMembershipFiles(self, asked):
        artifact = self.found(asked, "collection")[int(asked["alias"].removeprefix("v"))]
        nodes = [
            {
                "__typename": "File",
                "id": key,
                "name": name,
                "url": self.url(key),
                "sizeBytes": len(self.objects[key]),
                "storagePath": key,
                "mimetype": None,
                "updatedAt": NOW,
                "digest": None,
                "md5": None,
                "directUrl": self.url(key),
            }
            for name, key in artifact.files.items()
            if name in asked["fileNames"]
        ]
        what = {"__typename": "ArtifactSequence", "artifactMembership": {"files": connection(nodes)}}
        return {"project": {"artifactCollection": what}}


if __name__ == "__main__":
    serve(Wandb())
