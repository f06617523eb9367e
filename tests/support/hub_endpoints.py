"""The endpoints of the small Hub of the tests: who may do what, and what each request answers."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.support.hub_store import LFS_SUFFIXES, Commit, File, Refused, Repo, User, card_errors, card_metadata, is_lfs
from tests.support.xet_store import read_object


class Endpoints:
    """The state, and one method a kind of request.

    Each takes the user (None: nobody), the names found in the address and the body; what it returns is sent as JSON.
    """

    port = 0

    def __init__(self, folder: Path):
        self.store = folder / "xet"
        self.store.mkdir(parents=True, exist_ok=True)
        self.users: dict[str, User] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_repo(self, repo_id: str, kind: str, private: bool = False, gated: bool = False) -> Repo:
        repo = self.repos[kind, repo_id] = Repo(repo_id, kind, private, gated)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        repo.commits.append(Commit("initial commit", "", None, {".gitattributes": File(attributes.encode(), False)}))
        return repo

    # -- rights

    def reader(self, repo_type: str, repo_id: str, user: User | None, content: bool = False) -> Repo:
        repo = self.repos.get((repo_type, repo_id))
        member = user is not None and repo is not None and repo.namespace in [user.name, *user.orgs]
        if repo is None or (repo.private and not member):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if repo.gated and content and not member:
            raise Refused(
                403 if user else 401,
                f"Access to {repo.type} {repo.id} is restricted and you are not in the authorized list.",
                "GatedRepo",
            )
        return repo

    def writer(self, repo_type: str, repo_id: str, user: User | None) -> Repo:
        repo = self.reader(repo_type, repo_id, user)
        self.may_write(repo.namespace, user)
        return repo

    @staticmethod
    def may_write(namespace: str, user: User | None) -> None:
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if user.role == "read" or namespace not in [user.name, *user.orgs]:
            raise Refused(403, f"Forbidden: pass a token with the right to write in {namespace}.")

    # -- endpoints

    def whoami(self, user: User | None, names: dict, body: bytes) -> dict:
        if user is None:
            raise Refused(401, "Invalid username or password.")
        access: dict[str, Any] = {"displayName": "tests", "role": user.role}
        if user.role == "fineGrained":
            entity = {"type": "user", "name": user.name}
            access["fineGrained"] = {
                "scoped": [{"entity": entity, "permissions": ["repo.content.read", "repo.write"]}]
            }
        return {
            "type": "user",
            "name": user.name,
            "fullname": user.name.title(),
            "email": f"{user.name}@example.org",
            "orgs": [{"type": "org", "name": org, "roleInOrg": "write"} for org in user.orgs],
            "auth": {"type": "access_token", "accessToken": access},
        }

    def auth_check(self, user: User | None, names: dict, body: bytes) -> dict:
        if names["write"]:
            self.writer(names["type"], names["id"], user)
        else:
            self.reader(names["type"], names["id"], user, content=True)
        return {}

    def create(self, user: User | None, names: dict, body: bytes) -> dict:
        asked = json.loads(body)
        namespace = asked.get("organization") or (user.name if user else "")
        self.may_write(namespace, user)
        repo_id, kind = f"{namespace}/{asked['name']}", asked.get("type") or "model"
        url = f"{self.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        if (kind, repo_id) in self.repos:
            raise Refused(409, json.dumps({"error": "You already created this model repo", "url": url}))
        self.new_repo(repo_id, kind, private=asked.get("visibility") == "private")
        return {"url": url, "name": repo_id, "id": repo_id}

    def validate_yaml(self, user: User | None, names: dict, body: bytes) -> dict:
        errors = [{"message": message} for message in card_errors(json.loads(body)["content"])]
        if errors:
            raise Refused(400, json.dumps({"errors": errors, "warnings": []}))
        return {"errors": [], "warnings": []}

    def preupload(self, user: User | None, names: dict, body: bytes) -> dict:
        repo, asked = self.writer(names["type"], names["id"], user), json.loads(body)
        there = repo.at(names["rev"]).files
        ignore = asked.get("gitIgnore")
        if ignore is None:
            ignore = there[".gitignore"].content.decode() if ".gitignore" in there else ""
        patterns = [line for line in ignore.splitlines() if line and not line.startswith("#")]
        answers = []
        for file in asked["files"]:
            lfs = is_lfs(file["path"], base64.b64decode(file["sample"]))
            answer = {
                "path": file["path"],
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": any(Path(file["path"]).match(pattern) for pattern in patterns),
            }
            if file["path"] in there and there[file["path"]].lfs == lfs:
                answer["oid"] = there[file["path"]].etag
            answers.append(answer)
        return {"files": answers}

    def lfs_batch(self, user: User | None, names: dict, body: bytes) -> dict:
        self.writer(names["type"], names["id"], user)
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.objects:
                upload = {"href": f"{self.url}/lfs-put/{asked['oid']}", "header": {}}
                verify = {"href": f"{self.url}/lfs-verify", "header": {}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, user: User | None, names: dict, body: bytes) -> dict:
        self.objects[names["oid"]] = body
        return {}

    def lfs_verify(self, user: User | None, names: dict, body: bytes) -> dict:
        asked = json.loads(body)
        content = self.objects.get(asked["oid"], b"")
        if hashlib.sha256(content).hexdigest() != asked["oid"] or len(content) != asked["size"]:
            self.objects.pop(asked["oid"], None)
            raise Refused(422, "the object that arrived is not the one announced")
        return {}

    def xet_token(self, user: User | None, names: dict, body: bytes) -> dict:
        if names["what"] == "write":
            self.writer(names["type"], names["id"], user)
        else:
            self.reader(names["type"], names["id"], user, content=True)
        return {"casUrl": f"local://{self.store}", "accessToken": "xet-token", "exp": int(time.time()) + 3600}

    def commit(self, user: User | None, names: dict, body: bytes) -> dict:
        repo = self.writer(names["type"], names["id"], user)
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        header, head = lines[0]["value"], repo.at("main")
        if names["rev"] != "main":
            raise Refused(404, f"Invalid rev id: {names['rev']}", "RevisionNotFound")
        if header.get("parentCommit") and not head.oid.startswith(header["parentCommit"]):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            value = line["value"]
            path = value["path"]
            if line["key"] == "file":
                files[path] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                files[path] = File(self._object(value["oid"], value["size"]), True)
            else:
                files = {p: f for p, f in files.items() if p != path and not p.startswith(path.rstrip("/") + "/")}
        repo.commits.append(Commit(header["summary"], header["description"], head.oid, files))
        oid = repo.commits[-1].oid
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{repo.id}/commit/{oid}"}

    def _object(self, oid: str, size: int) -> bytes:
        content = self.objects.get(oid)
        if content is None:
            content = read_object(self.store, oid, size)
        if content is None or hashlib.sha256(content).hexdigest() != oid or len(content) != size:
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {oid}")
        self.objects[oid] = content
        return content

    def info(self, user: User | None, names: dict, body: bytes) -> dict:
        repo = self.reader(names["type"], names["id"], user)
        commit = repo.at(names.get("rev") or "main")
        card = commit.files["README.md"].content.decode() if "README.md" in commit.files else ""
        data = card_metadata(card)
        files = [{"rfilename": p, "size": f.size, "blobId": f.blob_id} for p, f in sorted(commit.files.items())]
        return {
            "_id": repo.id,
            "id": repo.id,
            "sha": commit.oid,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": data.get("tags") or [],
            "cardData": data,
            "pipeline_tag": data.get("pipeline_tag"),
            "siblings": files,
            "createdAt": repo.commits[0].date,
            "lastModified": commit.date,
        }

    def tree(self, user: User | None, names: dict, body: bytes) -> list:
        repo = self.reader(names["type"], names["id"], user)
        commit, folder = repo.at(names["rev"]), (names.get("path") or "").rstrip("/")
        prefix = folder + "/" if folder else ""
        inside = {path: file for path, file in commit.files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise Refused(404, f"{folder} does not exist on {names['rev']}", "EntryNotFound")
        deep = names["query"].get("recursive", ["false"])[0].lower() in ("true", "1")
        parents = {"/".join(path.split("/")[:n]) for path in inside for n in range(1, path.count("/") + 1)}
        paths = [p for p in [*parents, *inside] if p.startswith(prefix) and (deep or "/" not in p[len(prefix) :])]
        return [self._entry(commit, path) for path in sorted(paths)]

    def paths_info(self, user: User | None, names: dict, body: bytes) -> list:
        commit = self.reader(names["type"], names["id"], user).at(names["rev"])
        asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
        there = [p for p in asked if p in commit.files or any(f.startswith(p + "/") for f in commit.files)]
        return [self._entry(commit, path) for path in there]

    @staticmethod
    def _entry(commit: Commit, path: str) -> dict:
        entry: dict[str, Any] = {"path": path, "lastCommit": {"id": commit.oid, "title": "", "date": commit.date}}
        file = commit.files.get(path)
        if file is None:
            return {**entry, "type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
        entry |= {"type": "file", "oid": file.blob_id, "size": file.size}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        return entry

    def refs(self, user: User | None, names: dict, body: bytes) -> dict:
        repo = self.reader(names["type"], names["id"], user)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.at("main").oid}
        return {"branches": [main], "tags": [], "converts": []}

    def history(self, user: User | None, names: dict, body: bytes) -> list:
        repo = self.reader(names["type"], names["id"], user)
        repo.at(names["rev"])
        return [
            {"id": c.oid, "title": c.title, "message": c.description, "date": c.date, "authors": [], "formatted": {}}
            for c in reversed(repo.commits)
        ]

    def resolve(self, user: User | None, names: dict, body: bytes) -> tuple[Commit, File]:
        commit = self.reader(names["type"], names["id"], user, content=True).at(names["rev"])
        if names["path"] not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        return commit, commit.files[names["path"]]


_API = r"/api/(?P<type>model|dataset|space)s/(?P<id>[^/]+(?:/[^/]+)?)"
_PAGE = r"/(?:(?P<type>dataset|space)s/)?(?P<id>[^/]+(?:/[^/]+)?)"
ROUTES: list[tuple[str, str, Callable]] = [
    (r"GET /api/whoami-v2", "whoami", Endpoints.whoami),
    (r"POST /api/repos/create", "create", Endpoints.create),
    (r"POST /api/validate-yaml", "validate-yaml", Endpoints.validate_yaml),
    (rf"GET {_API}/auth-check(?P<write>/write)?", "auth-check", Endpoints.auth_check),
    (rf"POST {_API}/preupload/(?P<rev>[^/]+)", "preupload", Endpoints.preupload),
    (rf"GET {_API}/xet-(?P<what>write|read)-token/(?P<rev>[^/]+)", "xet-token", Endpoints.xet_token),
    (rf"POST {_API}/commit/(?P<rev>[^/]+)", "commit", Endpoints.commit),
    (rf"GET {_API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?", "tree", Endpoints.tree),
    (rf"POST {_API}/paths-info/(?P<rev>[^/]+)", "paths-info", Endpoints.paths_info),
    (rf"GET {_API}/refs", "refs", Endpoints.refs),
    (rf"GET {_API}/commits/(?P<rev>[^/]+)", "commits", Endpoints.history),
    (rf"GET {_API}(?:/revision/(?P<rev>[^/]+))?", "info", Endpoints.info),
    (rf"POST {_PAGE}\.git/info/lfs/objects/batch", "lfs-batch", Endpoints.lfs_batch),
    (r"PUT /lfs-put/(?P<oid>\w+)", "lfs-put", Endpoints.lfs_put),
    (r"POST /lfs-verify", "lfs-verify", Endpoints.lfs_verify),
    (rf"(?:GET|HEAD) {_PAGE}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve", Endpoints.resolve),
]
