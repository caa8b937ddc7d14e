"""The two clients, and pages as one list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import httpx

from ._async_operations import AsyncOperations
from ._operations import Operations
from ._transport import AsyncTransport, Settings, Transport

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Konstruct(Operations):
    """The service, for threads. One client serves many threads; close it, or use it in a with statement.

    Args:
        url: the service's address, otherwise KONSTRUCT_URL, otherwise http://127.0.0.1:7117
        key: an API key, otherwise KONSTRUCT_KEY
        timeout: seconds to connect, and seconds without a byte, before a call fails
        max_retries: how often a call is repeated after 429, 503 or a lost connection, where it has no second effect
        max_wait: the longest Retry-After, in seconds, that a call waits for
        http_client: an httpx client of yours, with its proxies and certificates
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 4,
        max_wait: float = 60.0,
        http_client: httpx.Client | None = None,
    ) -> None:
        settings = Settings(url, key, timeout, max_retries, max_wait)
        self._transport = Transport(settings, http_client or httpx.Client())

    def close(self) -> None:
        """Closes the connections."""
        self._transport.client.close()

    def __enter__(self) -> Konstruct:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncKonstruct(AsyncOperations):
    """The service, for asyncio. Its arguments are those of Konstruct."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 4,
        max_wait: float = 60.0,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        settings = Settings(url, key, timeout, max_retries, max_wait)
        self._transport = AsyncTransport(settings, http_client or httpx.AsyncClient())

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.client.aclose()

    async def __aenter__(self) -> AsyncKonstruct:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Page(Protocol[T_co]):
    """A page of a list, as each list operation returns it."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next(self) -> str | None: ...


def items(list_operation: Callable[..., Page[T]], **query: Any) -> Iterator[T]:
    """Every item of a list, page by page: items(client.list_events, action_type="tool_invocation")."""
    while True:
        page = list_operation(**query)
        yield from page.items
        if page.next is None:
            return
        query["after"] = page.next


async def async_items(
    list_operation: Callable[..., Awaitable[Page[T]]], **query: Any
) -> AsyncIterator[T]:
    """Every item of a list, page by page, of an AsyncKonstruct's operation."""
    while True:
        page = await list_operation(**query)
        for item in page.items:
            yield item
        if page.next is None:
            return
        query["after"] = page.next
