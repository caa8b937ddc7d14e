"""The decorator against a running service."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import os
import threading
import unittest
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import konstruct
from konstruct import AsyncKonstruct, Konstruct, conversation, set_client, tool
from konstruct._plain import as_text, plain
from konstruct.types import Event

from .test_client import client, faulty


def recorded(agent: str) -> list[Event]:
    with client() as c:
        return sorted(konstruct.items(c.list_events, agent_id=agent), key=lambda e: e.created_at)


class Tools(unittest.TestCase):
    def setUp(self) -> None:
        self.agent, self.conversation = str(uuid4()), str(uuid4())
        self.client = client()
        self.addCleanup(self.client.close)

    def test_a_function_is_recorded(self) -> None:
        @tool(client=self.client)
        def lookup(order: int, *, deep: bool = False, **rest: str) -> dict[str, int]:
            """Looks an order up."""
            return {"order": order}

        with conversation(self.conversation, agent_id=self.agent, user_id="ada"):
            self.assertEqual(lookup(17, deep=True, note="ü"), {"order": 17})
        self.assertEqual((lookup.__name__, lookup.__doc__), ("lookup", "Looks an order up."))
        [event] = recorded(self.agent)
        self.assertEqual(event.action_type, "tool_invocation")
        self.assertEqual(json.loads(event.input_summary or ""), {"order": 17, "deep": True, "rest": {"note": "ü"}})
        self.assertEqual((event.output_summary, event.user_id), ('{"order": 17}', "ada"))
        self.assertEqual(event.metadata["gen_ai.tool.name"], "lookup")
        self.assertEqual(event.metadata["gen_ai.conversation.id"], self.conversation)
        self.assertIsNotNone(event.latency_ms)

    def test_an_exception_is_recorded_and_raised(self) -> None:
        failure = KeyError("order 17")

        @tool(client=self.client, name="lookup_order", agent_id=self.agent, unwritten="raise")
        def lookup() -> None:
            raise failure

        with self.assertRaises(KeyError) as caught:
            lookup()
        self.assertIs(caught.exception, failure)
        [event] = recorded(self.agent)
        self.assertEqual(event.metadata["gen_ai.tool.name"], "lookup_order")
        self.assertEqual(event.metadata["error.type"], "KeyError")
        self.assertEqual(event.metadata["exception.message"], "'order 17'")
        self.assertIsNone(event.output_summary)

    def test_a_wrong_call_is_recorded_and_raised(self) -> None:
        @tool(client=self.client, agent_id=self.agent)
        def lookup(order: int) -> int:
            return order

        with self.assertRaisesRegex(TypeError, "number"):
            lookup(number=17)  # type: ignore[call-arg]
        [event] = recorded(self.agent)
        self.assertEqual(event.metadata["error.type"], "TypeError")
        self.assertEqual(json.loads(event.input_summary or ""), {"args": [], "number": 17})

    def test_a_method_has_no_self_among_its_arguments(self) -> None:
        ours, agent = self.client, self.agent

        class Shop:
            @tool(client=ours, agent_id=agent)
            def lookup(self, order: int) -> int:
                return order + 1

        self.assertEqual(Shop().lookup(1), 2)
        [event] = recorded(self.agent)
        self.assertEqual(event.input_summary, '{"order": 1}')
        self.assertEqual(event.output_summary, "2")

    def test_arguments_are_those_of_the_call_and_not_what_became_of_them(self) -> None:
        @tool(client=self.client, agent_id=self.agent)
        def drain(queue: list[int]) -> int:
            taken = sum(queue)
            queue.clear()
            return taken

        self.assertEqual(drain([1, 2]), 3)
        [event] = recorded(self.agent)
        self.assertEqual(event.input_summary, '{"queue": [1, 2]}')

    def test_values_that_are_no_json_are_recorded(self) -> None:
        class Color(enum.Enum):
            RED = "red"

        @dataclasses.dataclass
        class Order:
            id: int
            at: datetime

        class Broken:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        loop: list[Any] = [1]
        loop.append(loop)
        deep: list[Any] = []
        for _ in range(10_000):
            deep = [deep]

        @tool(client=self.client, agent_id=self.agent)
        def everything(value: Any) -> Any:
            return value

        values: dict[Any, Any] = {
            "enum": Color.RED, "order": Order(1, datetime(2026, 1, 2, tzinfo=timezone.utc)), "broken": Broken(),
            "loop": loop, "deep": deep, "nan": float("nan"), "bytes": b"ab", "path": Path("/tmp/x"), "set": {1},
            (1, 2): "a key", "nul": "a\x00b", "half": "\ud800", "int": 10**10_000, "none": None,
        }
        self.assertIs(everything(values), values)
        [event] = recorded(self.agent)
        value = json.loads(event.input_summary or "")["value"]
        self.assertEqual(value["enum"], "red")
        self.assertEqual(value["order"], {"id": 1, "at": "2026-01-02T00:00:00+00:00"})
        self.assertEqual(value["broken"], "<Broken>")
        self.assertEqual(value["loop"], [1, "… [cycle]"])
        self.assertEqual(value["nan"], "nan")
        self.assertTrue(value["bytes"].startswith("2 bytes, sha256 fb8e20fc"))
        self.assertEqual((value["path"], value["set"], value["(1, 2)"]), ("/tmp/x", [1], "a key"))
        self.assertEqual((value["nul"], value["half"]), ("a\x00b", "\ud800"))
        self.assertIn("bits", value["int"])
        self.assertIsNone(value["none"])

    def test_values_of_any_size_are_recorded(self) -> None:
        @tool(client=self.client, agent_id=self.agent)
        def grow(text: str) -> str:
            return text * 3

        text = "\x00\u00e4" * 1_000_000
        self.assertEqual(len(grow(text)), 6_000_000)
        [event] = recorded(self.agent)
        self.assertRegex(event.output_summary or "", r"… \[cut: \d+ bytes, sha256 [0-9a-f]{64}\]$")
        self.assertLess(len(as_text(range(10**9))), 100)
        self.assertLess(len(as_text(list(range(10**6)))), 1 << 16)
        self.assertEqual(plain([list(range(20_000))])[0][-1], "… [cut]")

    def test_a_trail_that_cannot_be_written_hides_nothing(self) -> None:
        closed, reader = client(url="KONSTRUCT_CLOSED_URL"), client("KONSTRUCT_READER_KEY")
        gap, late = faulty("gap"), faulty("late")
        with closed, reader, gap, late:
            for broken in (closed, reader, gap, late):

                def add(a: int, b: int) -> float:
                    return a / b

                with self.assertLogs("konstruct", "WARNING") as logs:
                    self.assertEqual(tool(client=broken)(add)(4, 2), 2)
                self.assertIn("the call of add is not on the trail", logs.output[0])
                with self.assertRaises(konstruct.TrailNotWrittenError) as caught:
                    tool(client=broken, unwritten="raise")(add)(4, 2)
                self.assertEqual(caught.exception.result, 2)
                with self.assertLogs("konstruct", "WARNING"), self.assertRaises(ZeroDivisionError):
                    tool(client=broken, unwritten="raise")(add)(4, 0)

    def test_a_tool_without_a_client_uses_the_one_that_is_set(self) -> None:
        @tool
        def plainly(x: int) -> int:
            return x

        for given in (self.client, None):
            set_client(given)
            with conversation(agent_id=self.agent):
                self.assertEqual(plainly(1), 1)
        self.assertEqual(len(recorded(self.agent)), 2)

    def test_conversations_nest_and_threads_have_none(self) -> None:
        @tool(client=self.client, agent_id=self.agent)
        def step(n: int) -> int:
            return n

        with conversation("outer", user_id="ada"):
            with conversation("inner"):
                step(1)
            step(2)
            thread = threading.Thread(target=step, args=(3,))
            thread.start()
            thread.join()
        got = [(e.metadata.get("gen_ai.conversation.id"), e.user_id) for e in recorded(self.agent)]
        self.assertEqual(got, [("inner", "ada"), ("outer", "ada"), (None, None)])

    def test_a_generator_is_refused_when_it_is_decorated(self) -> None:
        def numbers() -> Any:
            yield 1

        with self.assertRaisesRegex(TypeError, "generator"):
            tool(numbers)
        with self.assertRaisesRegex(ValueError, "raise"):
            tool(unwritten=cast(Any, "never"))

    def test_a_client_for_asyncio_is_refused_for_a_plain_function(self) -> None:
        @tool(client=AsyncKonstruct(), unwritten="raise")
        def f() -> int:
            return 1

        with self.assertRaisesRegex(konstruct.TrailNotWrittenError, "give it a Konstruct") as caught:
            f()
        self.assertEqual(caught.exception.result, 1)


class AsyncTools(unittest.IsolatedAsyncioTestCase):
    async def test_a_coroutine_function_is_recorded_by_either_client(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as asynchronous:
            with Konstruct() as blocking:
                for c in (asynchronous, blocking):

                    @tool(client=c, agent_id=agent)
                    async def lookup(order: int) -> int:
                        await asyncio.sleep(0.01)
                        return order

                    self.assertTrue(asyncio.iscoroutinefunction(lookup))
                    self.assertEqual(await lookup(17), 17)
        events = recorded(agent)
        self.assertEqual([e.output_summary for e in events], ["17", "17"])
        self.assertTrue(all((e.latency_ms or 0) >= 10 for e in events))

    async def test_an_exception_is_recorded_and_raised(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as c:

            @tool(client=c, agent_id=agent)
            async def lookup() -> None:
                raise LookupError("no order")

            with self.assertRaisesRegex(LookupError, "no order"):
                await lookup()
        [event] = recorded(agent)
        self.assertEqual(event.metadata["error.type"], "LookupError")

    async def test_a_cancelled_call_is_recorded_and_stays_cancelled(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as c:

            @tool(client=c, agent_id=agent)
            async def wait() -> None:
                await asyncio.sleep(60)

            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.05)
        [event] = recorded(agent)
        self.assertEqual(event.metadata["error.type"], "CancelledError")

    async def test_conversations_of_tasks_do_not_mix(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as c:

            @tool(client=c, agent_id=agent)
            async def step(n: int) -> int:
                await asyncio.sleep(0.02)
                return n

            async def talk(n: int) -> None:
                with conversation(f"c{n}"):
                    await step(n)

            await asyncio.gather(*(talk(n) for n in range(5)))
        got = {e.output_summary: e.metadata["gen_ai.conversation.id"] for e in recorded(agent)}
        self.assertEqual(got, {str(n): f"c{n}" for n in range(5)})

    async def test_a_trail_that_cannot_be_written_hides_nothing(self) -> None:
        async with AsyncKonstruct(os.environ["KONSTRUCT_CLOSED_URL"]) as c:

            @tool(client=c, unwritten="raise")
            async def divide(a: int, b: int) -> float:
                return a / b

            with self.assertRaises(konstruct.TrailNotWrittenError) as caught:
                await divide(4, 2)
            self.assertEqual(caught.exception.result, 2)
            with self.assertLogs("konstruct", "WARNING"), self.assertRaises(ZeroDivisionError):
                await divide(4, 0)
