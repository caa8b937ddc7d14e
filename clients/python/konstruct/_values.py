"""Requests as values, and what goes over the wire in them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO, Union
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx

#: A file's content: bytes, or an opened file that can be read again for a retry.
FileContent = Union[bytes, BinaryIO]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one call differs from the client's settings."""

    #: Seconds to connect, and seconds without a byte, before the call fails
    timeout: float | None = None
    #: How often the call is repeated after 429, 503 or a lost connection
    max_retries: int | None = None
    #: The longest Retry-After, in seconds, that the call waits for
    max_wait: float | None = None
    #: Called with each successful answer, for its status and headers (ETag, RateLimit, Deprecation)
    on_response: Callable[[httpx.Response], None] | None = None


class Call:
    """One request, and whether it can be repeated without a second effect."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        file: tuple[str, FileContent] | None = None,
        content: bytes | None = None,
        takes_key: bool = False,
        key: str | None = None,
        own_ids: Sequence[str | UUID | None] = (),
    ) -> None:
        self.method, self.path = method, path
        self.query = {k: encode(v) for k, v in (query or {}).items() if v is not None}
        self.headers = {k: str(v) for k, v in (headers or {}).items() if v is not None}
        self.body: bytes | None = None
        if body is not None:
            self.body = encode_json({k: v for k, v in body.items() if v is not None})
            self.headers["Content-Type"] = "application/json"
        elif content is not None:
            self.body = content
            self.headers["Content-Type"] = "application/octet-stream"
        self.form = {k: form_value(v) for k, v in (form or {}).items() if v is not None}
        self.file = None if file is None else (file[0], content_of(file[1]))
        # An event has an id of the caller's, or one that the service derives from the key; never both.
        own = [i for i in own_ids if i is not None]
        if takes_key and key is None and not own:
            key = uuid4().hex
        if key is not None:
            self.headers["Idempotency-Key"] = key
        #: A file is known by its source, and a piece of an upload by its offset.
        self.repeatable = (
            method == "GET" or key is not None or file is not None or content is not None
            or (bool(own) and len(own) == len(own_ids))
        )


class FromHere:
    """An opened file whose beginning is where it stands: httpx rewinds a file before it sends it, again for a retry."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.start = file, file.tell()

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset + (self.start if whence == 0 else 0), whence) - self.start

    def tell(self) -> int:
        return self.file.tell() - self.start


def content_of(file: FileContent) -> bytes | FromHere:
    """A file's content as httpx takes it."""
    return bytes(file) if isinstance(file, (bytes, bytearray, memoryview)) else FromHere(file)


def segment(value: str | UUID) -> str:
    """A value as one segment of a path."""
    text = quote(str(value), safe="")
    if text in ("", ".", ".."):
        raise ValueError(f"{value!r} can't be part of a path: pass an id or a name")
    return text


def encode(value: Any) -> Any:
    """A value as JSON has it: datetimes, UUIDs and the package's own types become plain."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.metadata.get("json", f.name): getattr(value, f.name) for f in dataclasses.fields(value)}
        return {k: encode(v) for k, v in fields.items() if v is not None}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: pass an aware datetime, as datetime.now(timezone.utc)")
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {k: encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    return value


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8. NaN and infinities, which JSON has not, are refused."""
    return json.dumps(encode(value), ensure_ascii=False, allow_nan=False).encode()


def form_value(value: Any) -> Any:
    """A field of a form: an object is sent as JSON."""
    return encode_json(value).decode() if isinstance(value, Mapping) else encode(value)


_time = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def decode_time(text: str) -> datetime:
    """An RFC 3339 time as an aware datetime in UTC. Digits beyond microseconds are cut."""
    m = _time.fullmatch(text)
    if m is None:
        raise ValueError(f"{text!r} is not a time by RFC 3339")
    micros = (m[2] or "")[:6].ljust(6, "0")
    zone = "+00:00" if m[3] == "Z" else m[3]
    return datetime.fromisoformat(f"{m[1]}.{micros}{zone}").astimezone(timezone.utc)
