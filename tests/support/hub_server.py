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
    hub.fault("info", lie=lambda answer: Lie(answer[:9]))       # another answer; a write is then not done
    hub.fault("commit", run=lambda: hub.push(...))              # something happens just before; then it is served
    hub.fault("whoami", answer={})                              # not served, and answered so: JSON, or bytes of a page
    hub.fault("commit", answer_after={})                        # served, and answered so
    hub.fault("whoami", drip=1.0)                               # seconds from one byte of the answer to the next
    hub.revoke(token); hub.pause(); hub.resume()                # an expired token; no server at this address

Protocol as in huggingface_hub 2.4.0 and hf_xet 1.8.0. Files of more than text, or named in LFS_SUFFIXES, are LFS
objects. An upload through xet goes to a local store (see xet_store.py); downloads are plain HTTP either way.
"""

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_endpoints import ROUTES, Endpoints
from tests.support.hub_store import Commit, File, Refused, Repo, User, is_lfs

FOREVER = 10**9


@dataclass(frozen=True)
class Lie:
    """An answer that the Hub would not give."""

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    piece: int = 2**30
    """So many bytes at once, and then a pause of so many ..."""
    seconds: float = 0.0


@dataclass
class Fault:
    """See the module's docstring, as for Hub.fault."""

    endpoint: str
    times: int = 1
    status: int | None = None
    retry_after: int | str | None = None
    message: str = "fault laid by the test"
    drop: str | None = None
    after: int = 0
    corrupt: bool = False
    lie: Callable[[bytes], Lie] | None = None
    run: Callable[[], Any] | None = None
    answer: Any = ...
    answer_after: Any = ...
    drip: float = 0.0


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have been faster
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


class Dripping:
    """A connection's writing side that sends a byte at a time."""

    def __init__(self, file: Any, seconds: float):
        self.file, self.seconds = file, seconds

    def write(self, data: bytes) -> None:
        for byte in data:
            self.file.write(bytes([byte]))
            time.sleep(self.seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Handler(BaseHTTPRequestHandler):
    """One connection: matches a route, uses up a fault, calls the endpoint, answers."""

    hub: "Hub"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        with contextlib.suppress(OSError):  # we may have hung up on this client
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError):
            self.close_connection = True  # the client hung up, or pause() or a fault did

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        matches = ((re.fullmatch(p, f"{self.command} {address.path}"), name, call) for p, name, call in ROUTES)
        found, endpoint, call = next((match for match in matches if match[0]), (None, "", None))
        if found is None or call is None:
            self._body()
            return self._answer(404, {"error": f"no such endpoint: {self.command} {address.path}"})
        self.hub.requests.append(f"{self.command} {endpoint}")
        names: dict[str, Any] = {name: unquote(value) if value else None for name, value in found.groupdict().items()}
        names |= {"query": parse_qs(address.query), "type": names.get("type") or "model"}
        return self._serve(endpoint, call, names)

    do_POST = do_PUT = do_HEAD = do_GET

    def _serve(self, endpoint: str, call: Callable, names: dict) -> None:
        with self.hub.lock:
            fault = next((f for f in self.hub.faults if f.endpoint == endpoint and f.times > 0), Fault(endpoint))
            fault.times -= 1
        if fault.drop in ("before", "body"):
            self.rfile.read(fault.after)
            return self._drop()
        body = self._body()
        if fault.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault.run is not None:
            fault.run()
        if fault.drip:
            self.wfile: Any = Dripping(self.wfile, fault.drip)
        if fault.answer is not ...:
            return self._answer(fault.status or 200, fault.answer)
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return self._answer(fault.status, {"error": fault.message}, headers)
        if fault.lie is not None:
            return self._lie(fault.lie, call, names, body)
        try:
            with self.hub.lock:
                result = call(self.hub, self._user(), names, body)
        except Refused as refused:
            text = str(refused)
            headers = {"X-Error-Message": text} if not text.startswith("{") else {}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            if fault.drop == "after":
                return self._drop()
            return self._answer(refused.status, json.loads(text) if text.startswith("{") else {"error": text}, headers)
        if fault.drop == "after":
            return self._drop()
        if fault.answer_after is not ...:
            return self._answer(200, fault.answer_after)
        if endpoint == "resolve":
            return self._send_file(*result)
        headers = {}
        if endpoint == "xet-token":
            headers = {"X-Xet-Cas-Url": result["casUrl"], "X-Xet-Access-Token": result["accessToken"]}
            headers["X-Xet-Token-Expiration"] = str(result["exp"])
        return self._answer(200, result, headers)

    def _lie(self, lie: Callable[[bytes], Lie], call: Callable, names: dict, body: bytes) -> None:
        """Serve it, unless it is a write, and send something else than the answer."""
        if self.command == "GET":
            with contextlib.suppress(Refused), self.hub.lock:
                result = call(self.hub, self._user(), names, body)
                body = result[1].content if isinstance(result, tuple) else json.dumps(result).encode()
        told = lie(body)
        self.send_response(told.status)
        for name, value in {"Content-Length": str(len(told.content)), **told.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(told.content), told.piece) if self.command != "HEAD" else ():
            self.wfile.write(told.content[start : start + told.piece])
            self.wfile.flush()
            time.sleep(told.seconds)

    def _user(self) -> User | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        if not token:
            return None
        user = self.hub.users.get(token)
        if user is None or not user.valid:
            raise Refused(401, "Invalid credentials in Authorization header")
        return user

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _drop(self) -> None:
        self.close_connection = True
        hang_up(self.connection)

    def _send_file(self, commit: Commit, file: File) -> None:
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        content, status = file.content, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or file.size - 1), file.size - 1)
            if start >= file.size:
                return self._answer(416, {"error": "range"}, {"Content-Range": f"bytes */{file.size}"})
            content, status = content[start : end + 1], 206
            headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
        return self._answer(status, content, headers)

    def _answer(self, status: int, result: Any, headers: dict[str, str] | None = None) -> None:
        content = result if isinstance(result, bytes) else json.dumps(result).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream" if content is result else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


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
