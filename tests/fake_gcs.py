"""A Google Cloud Storage in memory: as much of its JSON API as gcsfs, google-cloud-storage and tensorstore ask for.

    with FakeGCS("bucket") as storage:
        ...  # clients that are told storage.url, such as by STORAGE_EMULATOR_HOST and TENSORSTORE_GCS_HTTP_URL
        storage.objects["bucket", "a/b.txt"].content

Generations grow with every write, and preconditions on them (ifGenerationMatch) hold, as in the real service.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import itertools
import json
import re
import threading
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(rewriteTo|copyTo|moveTo)(?:/b/([^/]+))?/o/([^/]+)")
_UPLOAD = re.compile(r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o")
_TIME = "2026-01-01T00:00:00.000Z"


@dataclasses.dataclass(frozen=True)
class Stored:
    """One object."""

    content: bytes
    generation: int
    type: str = "application/octet-stream"


class Refused(Exception):
    """What becomes an answer with this status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class FakeGCS:
    """A server on a free port of this machine, from `with` to its end; `requests` is what it was asked: (method, path)."""

    def __init__(self, *buckets: str):
        self.buckets = set(buckets)
        self.objects: dict[tuple[str, str], Stored] = {}
        self.uploads: dict[str, tuple[str, str, bytearray, dict[str, str]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeGCS":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of the objects, sorted as the service sorts them."""
        with self.lock:
            return sorted(name for where, name in self.objects if where == bucket and name.startswith(prefix))

    def put(self, bucket: str, name: str, content: bytes, asked: dict[str, str], kind: str = "") -> dict[str, Any]:
        """Write an object whole, where the preconditions hold."""
        with self.lock:
            self.check_bucket(bucket)
            self.check(bucket, name, asked)
            kind = kind or "application/octet-stream"
            self.objects[bucket, name] = Stored(content, next(self._numbers), kind)
            return self.described(bucket, name)

    def find(self, bucket: str, name: str) -> Stored:
        """The object, or 404."""
        self.check_bucket(bucket)
        if (bucket, name) not in self.objects:
            raise Refused(404, f"No such object: {bucket}/{name}")
        return self.objects[bucket, name]

    def check_bucket(self, bucket: str) -> None:
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")

    def check(self, bucket: str, name: str, asked: dict[str, str]) -> None:
        """The preconditions of a request; 0 means that there must be no object."""
        now = self.objects[bucket, name].generation if (bucket, name) in self.objects else 0
        if "ifGenerationMatch" in asked and int(asked["ifGenerationMatch"]) != now:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if "ifGenerationNotMatch" in asked and int(asked["ifGenerationNotMatch"]) == now:
            raise Refused(304, "Not modified")

    def described(self, bucket: str, name: str) -> dict[str, Any]:
        """The object resource of the JSON API."""
        stored = self.objects[bucket, name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": bucket,
            "size": str(len(stored.content)),
            "generation": str(stored.generation),
            "metageneration": "1",
            "contentType": stored.type,
            "timeCreated": _TIME,
            "updated": _TIME,
            "storageClass": "STANDARD",
            "etag": str(stored.generation),
            "md5Hash": base64.b64encode(hashlib.md5(stored.content).digest()).decode(),
        }

    def listed(self, bucket: str, asked: dict[str, str]) -> dict[str, Any]:
        """One page of objects and, with a delimiter, of the prefixes that end in it."""
        self.check_bucket(bucket)
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        found: dict[str, bool] = {}  # entry -> whether it is a prefix
        for name in self.names(bucket, prefix):
            if not asked.get("startOffset", "") <= name < asked.get("endOffset", "\U0010ffff"):
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            found.setdefault(*((name[: cut + len(delimiter)], True) if cut >= 0 else (name, False)))
        entries = [entry for entry in sorted(found) if entry > asked.get("pageToken", "")]
        most = int(asked.get("maxResults", 1000))
        page: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [self.described(bucket, entry) for entry in entries[:most] if not found[entry]],
            "prefixes": [entry for entry in entries[:most] if found[entry]],
        }
        return page | ({"nextPageToken": entries[most - 1]} if len(entries) > most else {})


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FakeGCS

    def _handle(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else b""
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query, keep_blank_values=True))
        self.store.requests.append((self.command, unquote(self.path)))
        try:
            with self.store.lock:
                self._answer(url.path, asked, body)
        except Refused as refused:
            text = {"error": {"code": refused.status, "message": refused.message, "errors": []}}
            self._send(refused.status, b"" if refused.status == 304 else json.dumps(text).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _answer(self, path: str, asked: dict[str, str], body: bytes) -> None:
        store = self.store
        if found := _UPLOAD.fullmatch(path):
            self._upload(unquote(found[1]), asked, body)
        elif found := _COPY.fullmatch(path):
            source, name, verb, target, new = (unquote(part or "") for part in found.groups())
            stored = store.find(source, name)
            made = store.put(target or source, new, stored.content, asked, stored.type)
            if verb == "moveTo":
                del store.objects[source, name]
            self._json({"done": True, "resource": made} if verb == "rewriteTo" else made)
        elif found := _OBJECT.fullmatch(path):
            self._object(unquote(found[1]), unquote(found[2]), asked)
        elif found := re.fullmatch(r"/storage/v1/b/([^/]+)(/o)?", path):
            store.check_bucket(unquote(found[1]))
            bucket = {
                "kind": "storage#bucket",
                "id": found[1],
                "name": found[1],
                "location": "US",
                "timeCreated": _TIME,
            }
            self._json(store.listed(unquote(found[1]), asked) if found[2] else bucket)
        else:
            raise Refused(501, f"the fake storage does not know {self.command} {path}")

    def _object(self, bucket: str, name: str, asked: dict[str, str]) -> None:
        store, stored = self.store, self.store.find(bucket, name)
        store.check(bucket, name, asked)
        if self.command == "DELETE":
            del store.objects[bucket, name]
            self._send(204, b"")
        elif asked.get("alt") == "media":
            self._media(stored)
        else:
            self._json(store.described(bucket, name))

    def _media(self, stored: Stored) -> None:
        """The content, or the part of it that a Range header names."""
        headers = {"x-goog-generation": str(stored.generation), "Content-Type": stored.type}
        size, content = len(stored.content), stored.content
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found:
            return self._send(200, content, headers)
        first = int(found[1]) if found[1] else max(size - int(found[2]), 0)
        last = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
        if first > last:
            raise Refused(416, "The requested range cannot be satisfied.")
        self._send(206, content[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{size}"})

    def _upload(self, bucket: str, asked: dict[str, str], body: bytes) -> None:
        kind = asked.get("uploadType", "media")
        if "upload_id" in asked:
            self._upload_piece(asked["upload_id"], body)
        elif kind == "resumable":
            name = asked.get("name") or json.loads(body)["name"]
            self.store.check_bucket(bucket)
            number = str(len(self.store.uploads) + 1)
            self.store.uploads[number] = (bucket, name, bytearray(), asked)
            place = f"{self.store.url}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=resumable&upload_id={number}"
            self._send(200, b"", {"Location": place})
        elif kind == "multipart":
            head, content = _parts(self.headers["Content-Type"], body)
            self._json(self.store.put(bucket, asked.get("name") or head["name"], content, asked))
        else:
            self._json(self.store.put(bucket, asked["name"], body, asked, self.headers.get("Content-Type", "")))

    def _upload_piece(self, number: str, body: bytes) -> None:
        """Content-Range: bytes FIRST-LAST/TOTAL, where TOTAL is * until the last piece."""
        bucket, name, content, asked = self.store.uploads[number]
        content += body
        total = self.headers.get("Content-Range", "/").rpartition("/")[2]
        if total == "*":
            return self._send(308, b"", {"Range": f"bytes=0-{len(content) - 1}"})
        self._json(self.store.put(bucket, name, bytes(content), asked))

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # gcsfs hangs up on what it no longer wants to know
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON head and the content of a multipart/related upload."""
    note = Message()
    note["Content-Type"] = content_type
    boundary = b"--" + str(note.get_boundary()).encode()
    _, first, rest = body.split(boundary, 2)
    head = BytesParser().parsebytes(first.lstrip(b"\r\n")).get_payload()
    second = re.split(rb"\r?\n\r?\n", rest, maxsplit=1)[1]
    return json.loads(str(head)), re.sub(rb"\r?\n$", b"", second.rpartition(boundary)[0])


@contextlib.contextmanager
def serving(*buckets: str) -> Iterator[FakeGCS]:
    """A storage that every client in this process and its children talks to, without credentials."""
    with FakeGCS(*buckets) as storage, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", storage.url)  # gcsfs, google-cloud-storage
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", storage.url)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")  # tensorstore
        patch.setenv("NO_GCE_CHECK", "true")  # gcsfs looks for credentials in files only, and then does without
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # would ask over gRPC what kind of bucket it is
        yield storage
