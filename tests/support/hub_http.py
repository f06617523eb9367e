"""The HTTP side of the small Hub of the tests: one connection, a route, a fault if one is laid, an answer."""

import contextlib
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_endpoints import ROUTES
from tests.support.hub_store import Commit, File, Refused, User

if TYPE_CHECKING:
    from tests.support.hub_server import Hub


@dataclass
class Fault:
    endpoint: str
    times: int = 1
    status: int | None = None
    retry_after: int | None = None
    message: str = "fault laid by the test"
    drop: str | None = None
    after: int = 0
    corrupt: bool = False
    run: Callable[[], Any] | None = None


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have been faster
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


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
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return self._answer(fault.status, {"error": fault.message}, headers)
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
        if endpoint == "resolve":
            return self._send_file(*result)
        headers = {}
        if endpoint == "xet-token":
            headers = {"X-Xet-Cas-Url": result["casUrl"], "X-Xet-Access-Token": result["accessToken"]}
            headers["X-Xet-Token-Expiration"] = str(result["exp"])
        return self._answer(200, result, headers)

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
