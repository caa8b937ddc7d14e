"""A decorator that records a function as a tool call."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, ParamSpec, TypeVar, overload
from uuid import UUID, uuid4

from ._plain import as_text, cut, plain
from ._values import Options
from .client import AsyncKonstruct, Konstruct
from .errors import TrailNotWrittenError

P = ParamSpec("P")
R = TypeVar("R")

#: What happens when a call can't be written to the trail: a line in the log, or a TrailNotWrittenError.
Unwritten = Literal["log", "raise"]

_log = logging.getLogger("konstruct")
_lock = threading.Lock()
_client: Konstruct | AsyncKonstruct | None = None


@dataclass(frozen=True)
class _Context:
    conversation_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None


_context: contextvars.ContextVar[_Context] = contextvars.ContextVar("konstruct_conversation", default=_Context())


@contextmanager
def conversation(
    conversation_id: str | None = None, *, agent_id: str | UUID | None = None, user_id: str | None = None
) -> Iterator[None]:
    """Says for which conversation, agent and user the tools in a with statement run. What is left out stays as it was.

    It follows threads and tasks as contextvars do: an asyncio task has its creator's, a new thread has none.
    """
    outer = _context.get()
    token = _context.set(
        _Context(conversation_id or outer.conversation_id, _text(agent_id) or outer.agent_id, user_id or outer.user_id))
    try:
        yield
    finally:
        _context.reset(token)


def _text(value: str | UUID | None) -> str | None:
    return None if value is None else str(value)


def set_client(client: Konstruct | AsyncKonstruct | None) -> None:
    """Sets the client of all tools that were given none. By default it is made from KONSTRUCT_URL and KONSTRUCT_KEY."""
    global _client
    _client = client


def _default_client() -> Konstruct | AsyncKonstruct:
    global _client
    with _lock:
        if _client is None:
            _client = Konstruct()
        return _client


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    client: Konstruct | AsyncKonstruct | None = None,
    agent_id: str | UUID | None = None,
    unwritten: Unwritten = "log",
    options: Options = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    client: Konstruct | AsyncKonstruct | None = None,
    agent_id: str | UUID | None = None,
    unwritten: Unwritten = "log",
    options: Options = Options(timeout=5.0, max_retries=2, max_wait=5.0),
) -> Any:
    """Records each call of a function, or of a coroutine function, as a tool call.

    The trail gets its name, arguments, result or exception, duration, and what conversation() says. The function's
    own result and exception reach the caller unchanged, whatever happens to the trail.

    Args:
        name: the tool's name, otherwise the function's
        client: otherwise that of set_client, otherwise one from KONSTRUCT_URL and KONSTRUCT_KEY
        agent_id: the agent, where conversation() names none and the key is not that of one agent
        unwritten: "log" writes a warning when the call can't be recorded; "raise" raises TrailNotWrittenError, which
            has the function's result. An exception of the function is raised in both cases.
        options: how long it tries to record a call, which then waits: by default three times, 5 seconds each
    """
    if unwritten not in ("log", "raise"):
        raise ValueError(f'unwritten is "log" or "raise", not {unwritten!r}')
    decorate = functools.partial(
        _recorded, name=name, client=client, agent_id=_text(agent_id), unwritten=unwritten, options=options)
    return decorate if function is None else decorate(function)


def _recorded(
    function: Callable[..., Any],
    *,
    name: str | None,
    client: Konstruct | AsyncKonstruct | None,
    agent_id: str | None,
    unwritten: Unwritten,
    options: Options,
) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a generator: decorate a function that returns all its items")
    try:
        signature = inspect.signature(function)
    except ValueError:  # one that is written in C
        signature = inspect.signature(lambda *args, **kwargs: None)
    called = name or function.__name__

    def record(
        started: datetime, latency: float, arguments: str, result: str | None, failure: BaseException | None
    ) -> dict[str, Any]:
        context = _context.get()
        call: dict[str, Any] = {
            "id": uuid7(started), "name": called, "arguments": arguments, "result": result, "type": "function",
            "agent_id": context.agent_id or agent_id, "user_id": context.user_id,
            "conversation_id": context.conversation_id, "created_at": started,
            # To the service 0 is unknown.
            "latency_ms": min(max(int(latency * 1000), 1), 2**31 - 1),
        }
        if failure is not None:
            call["error"] = type(failure).__qualname__[:1000]
            call["metadata"] = {"exception.message": described_failure(failure)}
        return call

    def complain(problem: BaseException | str, result: Any, failure: BaseException | None) -> None:
        text = f"the call of {called} is not on the trail: {problem}"
        if unwritten == "log" or failure is not None:
            _log.warning("%s", text, exc_info=problem if isinstance(problem, BaseException) else None)
            return
        raise TrailNotWrittenError(text, result) from (problem if isinstance(problem, BaseException) else None)

    def write(call: dict[str, Any], result: Any, failure: BaseException | None) -> None:
        try:
            to = client or _default_client()
            if isinstance(to, AsyncKonstruct):
                raise TypeError(f"{called} is no coroutine function: give it a Konstruct, not an AsyncKonstruct")
            gap = to.create_tool_call(**call, options=options).gap
        except Exception as err:
            complain(err, result, failure)
        else:
            if gap:
                complain("the service recorded a gap in its place", result, failure)

    async def write_async(call: dict[str, Any], result: Any, failure: BaseException | None) -> None:
        try:
            to = client or _default_client()
            if isinstance(to, AsyncKonstruct):
                gap = (await to.create_tool_call(**call, options=options)).gap
            else:
                gap = (await asyncio.to_thread(to.create_tool_call, **call, options=options)).gap
        except Exception as err:
            complain(err, result, failure)
        else:
            if gap:
                complain("the service recorded a gap in its place", result, failure)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            arguments = described_arguments(signature, args, kwargs)
            started, clock = datetime.now(timezone.utc), time.monotonic()
            try:
                result = await function(*args, **kwargs)
            except BaseException as failure:
                call = record(started, time.monotonic() - clock, arguments, None, failure)
                # A task that is being cancelled still waits for its last line on the trail.
                await asyncio.shield(asyncio.ensure_future(write_async(call, None, failure)))
                raise
            call = record(started, time.monotonic() - clock, arguments, described_result(result), None)
            await write_async(call, result, None)
            return result

        return async_wrapper

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        arguments = described_arguments(signature, args, kwargs)
        started, clock = datetime.now(timezone.utc), time.monotonic()
        try:
            result = function(*args, **kwargs)
        except BaseException as failure:
            write(record(started, time.monotonic() - clock, arguments, None, failure), None, failure)
            raise
        write(record(started, time.monotonic() - clock, arguments, described_result(result), None), result, None)
        return result

    return wrapper


def described_arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments by their names, as JSON, before the function can change them. A method's self is left out."""
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:  # the call itself will fail, and say why
        bound = {"args": args, **kwargs}
    named = {k: plain(v) for k, v in bound.items() if k not in ("self", "cls")}
    return as_text(named)


def described_result(result: Any) -> str | None:
    """A result as text; None is no result."""
    return None if result is None else as_text(result)


def described_failure(failure: BaseException) -> str:
    """An exception's message, at most 4,000 characters."""
    try:
        return cut(str(failure))[:4000]
    except Exception:
        return type(failure).__name__


def uuid7(at: datetime) -> UUID:
    """An id by RFC 9562, version 7: the millisecond, then random bits. A retry has the same."""
    milliseconds = int(at.timestamp() * 1000) & (2**48 - 1)
    value = (milliseconds << 80) | (uuid4().int & (2**80 - 1))
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62))
