"""HTTP: credentials, retries, and answers as values or errors."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx

from ._sse import Messages
from ._values import Call, Options
from .errors import NotModified, UnexpectedAnswerError, UnreachableError, problem_error
from .types import Problem

T = TypeVar("T")

_user_agent = "konstruct-python/0.1.0"
_no_options = Options()


class Settings:
    """Where the service is, and how a client treats it."""

    def __init__(
        self, url: str | None, key: str | None, timeout: float, max_retries: int, max_wait: float
    ) -> None:
        url = url or os.environ.get("KONSTRUCT_URL") or "http://127.0.0.1:7117"
        key = key or os.environ.get("KONSTRUCT_KEY")
        if not key:
            raise ValueError("there is no key: pass key, or set KONSTRUCT_KEY")
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}", "User-Agent": _user_agent}
        self.timeout, self.max_retries, self.max_wait = timeout, max_retries, max_wait

    def wait_after(
        self, call: Call, options: Options, failed: httpx.Response | httpx.HTTPError, n: int
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none."""
        limit = self.max_retries if options.max_retries is None else options.max_retries
        if n >= limit:
            return None
        backoff = min(0.2 * 2**n, 10.0) * random.uniform(0.5, 1.0)
        if isinstance(failed, httpx.HTTPError):
            # Nothing was sent before there was a connection.
            sent = not isinstance(failed, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
            return backoff if call.repeatable or not sent else None
        if failed.status_code == 429 or (failed.status_code == 503 and call.repeatable):
            try:
                wait = float(failed.headers.get("Retry-After", backoff))
            except ValueError:  # a date: the service sends seconds
                wait = backoff
            longest = self.max_wait if options.max_wait is None else options.max_wait
            return max(wait, 0.0) if wait <= longest else None
        return None

    def request(self, client: httpx.Client | httpx.AsyncClient, call: Call, options: Options) -> httpx.Request:
        """The request of an attempt."""
        files: dict[str, Any] | None = None
        if call.file is not None:
            files = {"file": (*call.file, "application/octet-stream")}
        return client.build_request(
            call.method, self.url + call.path, params=call.query, headers={**self.headers, **call.headers},
            content=call.body, data=call.form or None, files=files,
            timeout=self.timeout if options.timeout is None else options.timeout,
        )


def unreachable(url: str, err: httpx.HTTPError) -> UnreachableError:
    """The error of a request without an answer."""
    reason = str(err) or type(err).__name__
    return UnreachableError(f"{url} can't be reached: {reason}. Check the address, and that the service runs.")


def check(response: httpx.Response, options: Options) -> None:
    """Raises what an answer other than success says. Its body has been read."""
    if 200 <= response.status_code < 300:
        if options.on_response is not None:
            options.on_response(response)
        return
    if response.status_code == 304:
        raise NotModified("what if_none_match named is current")
    try:
        raise problem_error(Problem.from_json({**response.json(), "status": response.status_code}))
    except (ValueError, KeyError, TypeError, AttributeError):
        # A proxy's answer, or one from before the service reads HTTP.
        text = " ".join(response.text.split())[:300]
        title = response.reason_phrase or "Refused"
        raise problem_error(Problem(status=response.status_code, title=title, detail=text or title)) from None


def decoded(response: httpx.Response, decode: Callable[[Mapping[str, Any]], T]) -> T:
    """The value that an answer has."""
    try:
        return decode(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise UnexpectedAnswerError(
            f"{response.request.method} {response.request.url} was answered with something else than the API has "
            f"({type(err).__name__}: {err}): {response.text[:200]}") from err


def number(response: httpx.Response, header: str) -> int:
    """The number in a header."""
    try:
        return int(response.headers[header])
    except (KeyError, ValueError) as err:
        raise UnexpectedAnswerError(f"the answer's {header} is no number") from err


def message(data: str, decode: Callable[[Mapping[str, Any]], T]) -> T:
    """The value in a message of a stream."""
    try:
        return decode(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise UnexpectedAnswerError(f"a message of the stream is not what the API has: {data[:200]}") from err


class Transport:
    """Sends calls, each from the thread that asks."""

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self.settings, self.client = settings, client

    def send(self, call: Call, options: Options | None, stream: bool = False) -> httpx.Response:
        options, n = options or _no_options, 0
        while True:
            failed: httpx.Response | httpx.HTTPError
            try:
                failed = self.client.send(self.settings.request(self.client, call, options), stream=stream)
                if stream and not failed.is_success:
                    failed.read()
            except httpx.HTTPError as err:
                failed = err
            if isinstance(failed, httpx.Response) and failed.status_code not in (429, 503):
                check(failed, options)
                return failed
            wait = self.settings.wait_after(call, options, failed, n)
            if wait is None:
                if isinstance(failed, httpx.HTTPError):
                    raise unreachable(self.settings.url, failed) from failed
                check(failed, options)
                return failed
            time.sleep(wait)
            n += 1

    def json(self, call: Call, options: Options | None, decode: Callable[[Mapping[str, Any]], T]) -> T:
        return decoded(self.send(call, options), decode)

    def text(self, call: Call, options: Options | None) -> str:
        return self.send(call, options).text

    def binary(self, call: Call, options: Options | None) -> bytes:
        return self.send(call, options).content

    def number(self, call: Call, options: Options | None, header: str) -> int:
        return number(self.send(call, options), header)

    def nothing(self, call: Call, options: Options | None) -> None:
        self.send(call, options)

    def file(self, call: Call, options: Options | None) -> Iterator[bytes]:
        response = self.send(call, options, stream=True)
        try:
            yield from response.iter_bytes()
        except httpx.HTTPError as err:
            raise unreachable(self.settings.url, err) from err
        finally:
            response.close()

    def stream(self, call: Call, options: Options | None, decode: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
        messages = Messages(call.headers)
        while True:
            response = self.send(call, options, stream=True)
            messages.connected()
            try:
                for line in response.iter_lines():
                    for data in messages.feed(line):
                        yield message(data, decode)
            except httpx.HTTPError:
                pass  # the next connection resumes
            finally:
                response.close()
            time.sleep(messages.retry)


class AsyncTransport:
    """Sends calls, each from the event loop that asks."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self.settings, self.client = settings, client

    async def send(self, call: Call, options: Options | None, stream: bool = False) -> httpx.Response:
        options, n = options or _no_options, 0
        while True:
            failed: httpx.Response | httpx.HTTPError
            try:
                failed = await self.client.send(self.settings.request(self.client, call, options), stream=stream)
                if stream and not failed.is_success:
                    await failed.aread()
            except httpx.HTTPError as err:
                failed = err
            if isinstance(failed, httpx.Response) and failed.status_code not in (429, 503):
                check(failed, options)
                return failed
            wait = self.settings.wait_after(call, options, failed, n)
            if wait is None:
                if isinstance(failed, httpx.HTTPError):
                    raise unreachable(self.settings.url, failed) from failed
                check(failed, options)
                return failed
            await asyncio.sleep(wait)
            n += 1

    async def json(self, call: Call, options: Options | None, decode: Callable[[Mapping[str, Any]], T]) -> T:
        return decoded(await self.send(call, options), decode)

    async def text(self, call: Call, options: Options | None) -> str:
        return (await self.send(call, options)).text

    async def binary(self, call: Call, options: Options | None) -> bytes:
        return (await self.send(call, options)).content

    async def number(self, call: Call, options: Options | None, header: str) -> int:
        return number(await self.send(call, options), header)

    async def nothing(self, call: Call, options: Options | None) -> None:
        await self.send(call, options)

    async def file(self, call: Call, options: Options | None) -> AsyncIterator[bytes]:
        response = await self.send(call, options, stream=True)
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as err:
            raise unreachable(self.settings.url, err) from err
        finally:
            await response.aclose()

    async def stream(
        self, call: Call, options: Options | None, decode: Callable[[Mapping[str, Any]], T]
    ) -> AsyncIterator[T]:
        messages = Messages(call.headers)
        while True:
            response = await self.send(call, options, stream=True)
            messages.connected()
            try:
                async for line in response.aiter_lines():
                    for data in messages.feed(line):
                        yield message(data, decode)
            except httpx.HTTPError:
                pass  # the next connection resumes
            finally:
                await response.aclose()
            await asyncio.sleep(messages.retry)
