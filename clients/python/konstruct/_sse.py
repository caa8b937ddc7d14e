"""Server-sent events, as the stream of events sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import MutableMapping


class Messages:
    """Reads a stream's lines, and makes the next connection resume where this one ended."""

    #: As many ids as are remembered: a stream that resumes may send the last three seconds again.
    remembered = 10_000

    def __init__(self, headers: MutableMapping[str, str]) -> None:
        self.headers = headers
        self.retry = 1.0  # seconds before the next connection
        self.seen: dict[str, None] = {}
        self.id = ""
        self.data: list[str] = []

    def connected(self) -> None:
        """Forgets a message that the last connection broke off."""
        self.id, self.data = "", []

    def feed(self, line: str) -> Iterator[str]:
        """Yields the data of each message that the line completes, once."""
        if line == "":
            data, self.data = "\n".join(self.data), []
            if not data:
                return
            if self.id:
                self.headers["Last-Event-ID"] = self.id
                if self.id in self.seen:
                    return
                self.seen[self.id] = None
                if len(self.seen) > self.remembered:
                    del self.seen[next(iter(self.seen))]
            yield data
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.id = value
        elif name == "data":
            self.data.append(value)
        elif name == "retry" and value.isdigit():
            self.retry = int(value) / 1000
