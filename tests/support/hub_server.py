"""A small Hub for the tests: the real huggingface_hub, transformers and datasets clients talk to it over HTTP.

    with Hub(tmp_path / "hub") as hub:                          # a thread on 127.0.0.1, hub.url
        token = hub.add_user("ann", orgs=["lab"])               # role="read" | "write" | "fineGrained"
        hub.add_repo("ann/teacher", folder)                     # or {"path": b"..."}; private=True, gated=True
        hub.add_repo("nyu-mll/glue", folder, "dataset")
        run("run_glue.py", ..., env=hub.environment(token, tmp_path / "home", xet=False))     # a child process
        HfApi(endpoint=hub.url, token=token)                    # or in this process

Afterwards `hub.commits("ann/student")` lists the commits, oldest first (the first one is what creating a repository
makes), each with `title`, `description`, `parent` and `files` (path -> File with `content`, `size`, `lfs`);
`hub.files("ann/student")` is {path: bytes} at the head; `hub.push(id, {path: bytes})` commits as somebody else would;
`hub.requests` lists what was asked, as "METHOD endpoint", and `hub.asked("commit")` counts.

Faults are laid on an endpoint (the names in hub_endpoints.ROUTES) and used up by its next requests, in the order in
which they were laid:

    hub.fault("preupload", status=503, times=2)                 # times=FOREVER
    hub.fault("lfs-batch", status=429, retry_after=0)
    hub.fault("lfs-put", drop="body", after=65536)              # the connection ends after so many bytes of the body
    hub.fault("commit", drop="before")                          # ... before anything was done
    hub.fault("commit", drop="after")                           # ... after it was done: the answer is lost
    hub.fault("lfs-put", corrupt=True)                          # one bit of the body changes on the way
    hub.fault("commit", run=lambda: hub.push(...))              # something happens just before; then it is served
    hub.revoke(token); hub.pause(); hub.resume()                # an expired token; no server at this address

Protocol as in huggingface_hub 2.4.0 and hf_xet 1.8.0. Files of more than text, or named in LFS_SUFFIXES, are LFS
objects. An upload through xet goes to a local store (see xet_store.py); downloads are plain HTTP either way.
"""

import hashlib
import socket
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.hub_endpoints import ROUTES, Endpoints
from tests.support.hub_http import Fault, Handler, hang_up
from tests.support.hub_store import Commit, File, Repo, User, is_lfs

FOREVER = 10**9


class Hub(Endpoints):
    """See the module's docstring. `folder` holds what xet clients upload; everything else is in memory."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.connections: set[socket.socket] = set()
        self.resume()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def resume(self) -> None:
        """Listen (again), at the same address."""
        handler = type("Handler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def pause(self) -> None:
        """Stop listening and end every open connection."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):
            hang_up(connection)

    def add_user(self, name: str, role: str = "write", orgs: list[str] | None = None) -> str:
        """Returns the new user's token."""
        token = "hf_" + hashlib.sha256(f"{name} {role} {len(self.users)}".encode()).hexdigest()[:34]
        self.users[token] = User(name, token, role, orgs or [])
        return token

    def revoke(self, token: str) -> None:
        self.users[token].valid = False

    def add_repo(
        self,
        repo_id: str,
        files: Path | Mapping[str, bytes] | None = None,
        repo_type: str = "model",
        private: bool = False,
        gated: bool = False,
    ) -> Repo:
        repo = self.new_repo(repo_id, repo_type, private, gated)
        if files is not None:
            if isinstance(files, Path):
                paths = [path for path in files.rglob("*") if path.is_file()]
                files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
            self.push(repo_id, files, repo_type)
        return repo

    def push(
        self, repo_id: str, files: Mapping[str, bytes | None], repo_type: str = "model", title: str = "Edit"
    ) -> Commit:
        """A commit by somebody else; None removes a file."""
        with self.lock:
            repo = self.repos[repo_type, repo_id]
            changed = {path: File(data, is_lfs(path, data)) for path, data in files.items() if data is not None}
            kept = {path: file for path, file in repo.commits[-1].files.items() if path not in files}
            repo.commits.append(Commit(title, "", repo.commits[-1].oid, {**kept, **changed}))
            return repo.commits[-1]

    def commits(self, repo_id: str, repo_type: str = "model") -> list[Commit]:
        return self.repos[repo_type, repo_id].commits

    def files(self, repo_id: str, repo_type: str = "model") -> dict[str, bytes]:
        return {path: file.content for path, file in self.commits(repo_id, repo_type)[-1].files.items()}

    def asked(self, endpoint: str) -> int:
        return sum(request.split()[1] == endpoint for request in self.requests)

    def fault(self, endpoint: str, **options: Any) -> None:
        if endpoint not in {name for _, name, _ in ROUTES}:
            raise ValueError(f"no endpoint is called {endpoint}")
        self.faults.append(Fault(endpoint, **options))

    def environment(self, token: str | None, home: Path, xet: bool = True) -> dict[str, str]:
        """Environment for a child process: this Hub, this token, an own cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
