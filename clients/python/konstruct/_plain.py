"""Values of a program as text for the trail: JSON where they have it, and a description where they have not."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

#: Limits of what is recorded of one value: levels of nesting, items in all, and bytes of text.
max_depth, max_items, max_text = 32, 10_000, 64 << 10


def plain(value: Any) -> Any:
    """A value that json.dumps takes. It never raises, and it stops at cycles and at the limits."""
    return _Conversion().convert(value, 0, ())


class _Conversion:
    def __init__(self) -> None:
        self.left = max_items

    def convert(self, value: Any, depth: int, above: tuple[int, ...]) -> Any:
        self.left -= 1
        if self.left < 0:
            return "… [cut]"
        if id(value) in above:
            return "… [cycle]"
        if depth >= max_depth:
            return "… [too deep]"
        try:
            simple = scalar(value)
            return self.container(value, depth + 1, (*above, id(value))) if simple is None else simple
        except Exception as err:  # the value's own code failed
            return f"<{type(value).__name__}: {type(err).__name__} while it was recorded>"

    def container(self, value: Any, depth: int, above: tuple[int, ...]) -> Any:
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {
                k if isinstance(k, str) else described(k): self.convert(v, depth, above)
                for k, v in self.first(value.items())
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.convert(v, depth, above) for v in self.first(value)]
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth, above)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: self.convert(getattr(value, f.name, None), depth, above) for f in dataclasses.fields(value)}
        dump = getattr(value, "model_dump", None)  # Pydantic
        if callable(dump) and not isinstance(value, type):
            return self.convert(dump(mode="json"), depth, above)
        return described(value)

    def first(self, values: Iterable[Any]) -> Iterator[Any]:
        return itertools.islice(values, max(self.left, 0) + 1)  # one more than fits shows that it was cut


def scalar(value: Any) -> Any:
    """A value without parts as JSON has it, or None where it has parts, is None, or is unknown."""
    if isinstance(value, enum.Enum):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4096:
        return f"<int of {value.bit_length()} bits>"
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        return f"{len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()}"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    return None


def described(value: Any) -> str:
    """A value's own text, or its type's name where that fails."""
    try:
        return cut(str(value) if isinstance(value, (int, float, bool)) or hasattr(value, "__fspath__") else repr(value))
    except Exception:
        return f"<{type(value).__name__}>"


def as_text(value: Any) -> str:
    """A value as the trail has it: text as it is, everything else as JSON."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return cut(value)
    try:
        return cut(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))
    except Exception:  # an int of more digits than Python prints
        return described(value)


def cut(text: str) -> str:
    """Text that the trail takes: without NUL and halves of surrogate pairs, and at most max_text bytes of UTF-8.

    What is longer ends in the same mark as the service's: its length in bytes and its SHA-256.
    """
    raw = text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace")
    if len(raw) <= max_text:
        return raw.decode()
    mark = f"… [cut: {len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()}]"
    return raw[: max_text - len(mark.encode())].decode("utf-8", "ignore") + mark
