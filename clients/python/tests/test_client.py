"""The client against a running service, whose address and keys are in the environment."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import threading
import time
import unittest
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import httpx

import konstruct
from konstruct import AsyncKonstruct, Konstruct, Options, types
from konstruct._tool import uuid7

def faulty(fault: str) -> Konstruct:
    """A client of an address that fails in a way of its own."""
    return client(url="KONSTRUCT_FAULTY_URL", path=f"/{fault}.{uuid4()}")


HANDBOOK = b"# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n"


def client(key: str = "KONSTRUCT_KEY", url: str = "KONSTRUCT_URL", path: str = "") -> Konstruct:
    return Konstruct(os.environ[url] + path, os.environ[key])


class Events(unittest.TestCase):
    def test_an_event_is_created_listed_and_got(self) -> None:
        agent = str(uuid4())
        at = datetime(2026, 11, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
        with client() as c:
            created = c.create_event(
                action_type="tool_invocation", agent_id=agent, input_summary='{"order":17}', latency_ms=12,
                created_at=at, metadata={"none": None, "text": "Grüße \U0001f600", "list": [1, 2.5]})
            assert created.id is not None
            self.assertIsNone(created.gap)
            seen: list[httpx.Response] = []
            event = c.get_event(created.id, options=Options(on_response=seen.append))
            self.assertEqual(event.created_at, at)
            self.assertEqual((event.agent_id, event.input_summary, event.latency_ms), (agent, '{"order":17}', 12))
            self.assertEqual(event.metadata, {"none": None, "text": "Grüße \U0001f600", "list": [1, 2.5]})
            page = c.list_events(agent_id=agent, since=at - timedelta(seconds=1))
            self.assertEqual([e.id for e in page.items], [created.id])
            self.assertIsNone(page.next)
            with self.assertRaises(konstruct.NotModified):
                c.get_event(created.id, if_none_match=seen[0].headers["ETag"])

    def test_pages_follow_each_other(self) -> None:
        agent = uuid4()
        with client() as c:
            made = c.create_events(events=[
                types.CreateEventRequest(action_type="step", agent_id=agent, metadata={"n": n}) for n in range(5)])
            got = [e.id for e in konstruct.items(c.list_events, agent_id=agent, limit=2)]
        self.assertEqual(sorted(got), sorted(made.ids))

    def test_a_tool_call_and_a_model_call_have_their_types(self) -> None:
        with client() as c:
            conversation = str(uuid4())
            c.create_tool_call(name="lookup", arguments="{}", result="17", conversation_id=conversation)
            c.create_llm_call(model="m-1", input_tokens=3, output_tokens=4, conversation_id=conversation)
            run = c.get_run(conversation)
        self.assertEqual(sorted(s.action_type for s in run.steps), ["llm_call", "tool_invocation"])

    def test_the_stream_has_new_events(self) -> None:
        agent = str(uuid4())
        with client() as c, client() as writer:
            stopped = threading.Event()

            def write() -> None:
                while not stopped.wait(0.1):
                    writer.create_event(action_type="step", agent_id=agent)

            thread = threading.Thread(target=write)
            thread.start()
            try:
                seen = [e.id for e in itertools.islice(c.stream_events(agent_id=agent), 3)]
            finally:
                stopped.set()
                thread.join()
            self.assertEqual(len(set(seen)), 3)
            for event in seen:
                self.assertEqual(writer.get_event(event).agent_id, agent)


class Knowledge(unittest.TestCase):
    def test_a_document_is_uploaded_and_found(self) -> None:
        name = f"returns-{uuid4()}.md"
        with client() as c:
            queued = c.create_document(filename=name, file=HANDBOOK, metadata={"team": "shop"}, labels=["legal"])
            document = finished(c, queued.job_id)
            got = c.get_document(document)
            self.assertEqual((got.filename, got.metadata, got.labels), (name, {"team": "shop"}, ["legal"]))
            hits = c.search(text="When is a pump sent back?", top_k=3, where=["metadata.team=shop"]).hits
            self.assertIn("thirty days", hits[0].content)
            self.assertGreater(hits[0].score, 0)
            event = c.delete_document(document)
            self.assertIsNotNone(event.id)
            with self.assertRaises(konstruct.NotFoundError):
                c.get_document(document)

    def test_a_file_that_is_open_is_sent_from_where_it_stands_after_a_retry_too(self) -> None:
        name = f"returns-{uuid4()}.md"
        file = io.BytesIO(b"skipped" + HANDBOOK)
        file.seek(len(b"skipped"))
        with faulty("busy") as c:
            queued = c.create_document(filename=name, file=file)
        with client() as c:
            document = c.get_document(finished(c, queued.job_id))
        self.assertEqual(document.bytes, len(HANDBOOK))

    def test_a_large_file_comes_in_pieces(self) -> None:
        name = f"returns-{uuid4()}.md"
        with client() as c:
            upload = c.create_upload(filename=name, size=len(HANDBOOK))
            offset = c.append_upload(upload.id, content=HANDBOOK[:20], upload_offset=0)
            self.assertEqual(offset, 20)
            self.assertEqual(c.append_upload(upload.id, content=HANDBOOK[20:], upload_offset=offset), len(HANDBOOK))
            queued = c.complete_upload(upload.id)
            self.assertEqual(c.get_document(finished(c, queued.job_id)).filename, name)

    def test_an_export_is_downloaded(self) -> None:
        agent = uuid4()
        with client() as c:
            made = c.create_event(action_type="step", agent_id=agent)
            task = c.create_export(format="jsonl", agent_id=agent)
            until = time.monotonic() + 30
            while task.state == "open" and time.monotonic() < until:
                time.sleep(0.1)
                task = c.get_task(task.id)
            self.assertEqual(task.state, "done", task.reason)
            content = b"".join(c.get_task_content(task.id))
        self.assertIn(str(made.id).encode(), content)


def finished(c: Konstruct, job_id: str) -> str:
    """Waits until a job is done, and returns its document."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        job = c.get_job(job_id)
        if job.state in ("done", "failed"):
            assert job.state == "done" and job.document_id is not None, job
            return job.document_id
        time.sleep(0.1)
    raise AssertionError("the job takes too long")


class Errors(unittest.TestCase):
    def test_a_wrong_field_is_named_with_its_fix(self) -> None:
        with client() as c, self.assertRaises(konstruct.InvalidRequestError) as caught:
            c.create_event(action_type="step", latency_ms=-1)
        self.assertEqual(caught.exception.status, 422)
        self.assertEqual([e.location for e in caught.exception.errors], ["body.latency_ms"])
        self.assertIn("body.latency_ms", str(caught.exception))
        self.assertIn(caught.exception.problem.instance or "no instance", str(caught.exception))

    def test_errors_have_types(self) -> None:
        with client("KONSTRUCT_READER_KEY") as c:
            with self.assertRaises(konstruct.PermissionDeniedError) as caught:
                c.create_event(action_type="step")
            self.assertIn("events:write", caught.exception.detail)
            with self.assertRaises(konstruct.NotFoundError):
                c.get_event(uuid4())
        with Konstruct(os.environ["KONSTRUCT_URL"], "kst_wrong") as c:
            with self.assertRaises(konstruct.AuthenticationError):
                c.get_me()
        with client(url="KONSTRUCT_CLOSED_URL") as c:
            with self.assertRaisesRegex(konstruct.UnreachableError, "Check the address"):
                c.get_me(options=Options(max_retries=0))

    def test_what_is_not_the_service_is_said(self) -> None:
        with faulty("html") as c:
            with self.assertRaisesRegex(konstruct.ProblemError, "502 Bad Gateway: <h1>No backend</h1>"):
                c.get_me()
        with faulty("other") as c:
            with self.assertRaisesRegex(konstruct.UnexpectedAnswerError, "Another site"):
                c.get_me()

    def test_two_tenants_do_not_see_each_other(self) -> None:
        agent = uuid4()
        with client() as one, client("KONSTRUCT_OTHER_KEY") as other:
            made = one.create_event(action_type="step", agent_id=agent)
            assert made.id is not None
            self.assertNotEqual(one.get_me().tenant_id, other.get_me().tenant_id)
            with self.assertRaises(konstruct.NotFoundError):
                other.get_event(made.id)
            self.assertEqual(other.list_events(agent_id=agent).items, [])

    def test_a_time_without_zone_and_a_path_that_leads_elsewhere_are_refused_here(self) -> None:
        with client() as c:
            with self.assertRaisesRegex(ValueError, "time zone"):
                c.create_event(action_type="step", created_at=datetime(2026, 11, 30))
            with self.assertRaisesRegex(ValueError, "path"):
                c.get_run("..")


class Retries(unittest.TestCase):
    def test_busy_answers_are_repeated(self) -> None:
        with faulty("busy") as c:
            agent = uuid4()
            c.create_event(action_type="step", agent_id=agent)
            self.assertEqual(len(c.list_events(agent_id=agent).items), 1)
        with faulty("busy") as c:
            with self.assertRaises(konstruct.RateLimitedError):
                c.get_me(options=Options(max_retries=0))
            with self.assertRaises(konstruct.UnavailableError):
                c.get_me(options=Options(max_retries=0))
            c.get_me(options=Options(max_retries=0))

    def test_an_event_whose_answer_was_lost_is_logged_once(self) -> None:
        agent = uuid4()
        for own in (None, uuid7(datetime.now(timezone.utc))):
            with faulty("lost") as c:
                c.create_event(action_type="step", agent_id=agent, id=own)
        with client() as c:
            self.assertEqual(len(c.list_events(agent_id=agent).items), 2)

    def test_a_key_that_may_exist_is_not_created_again(self) -> None:
        name = f"lost {uuid4()}"
        with faulty("lost") as c, self.assertRaises(konstruct.UnreachableError):
            c.create_key(name=name, permissions=["events:read"])
        with client() as c:
            self.assertEqual(len([k for k in konstruct.items(c.list_keys) if k.name == name]), 1)

    def test_a_long_wait_is_an_error_at_once(self) -> None:
        with faulty("late") as c:
            began = time.monotonic()
            with self.assertRaises(konstruct.RateLimitedError):
                c.get_me(options=Options(max_wait=29))
            self.assertLess(time.monotonic() - began, 5)


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_the_async_client_does_the_same(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as c:
            made = await c.create_event(action_type="step", agent_id=agent)
            assert made.id is not None
            self.assertEqual((await c.get_event(made.id)).agent_id, agent)
            got = [e.id async for e in konstruct.async_items(c.list_events, agent_id=agent, limit=1)]
            self.assertEqual(got, [made.id])
            queued = await c.create_document(filename=f"{agent}.md", file=io.BytesIO(HANDBOOK))
            UUID(queued.job_id)
            with self.assertRaises(konstruct.InvalidRequestError):
                await c.create_event(action_type="")
        async with AsyncKonstruct(f"{os.environ['KONSTRUCT_FAULTY_URL']}/busy.{agent}") as c:
            await c.get_me()
            await c.get_me()

    async def test_the_stream_has_new_events(self) -> None:
        agent = str(uuid4())
        async with AsyncKonstruct() as c:
            async def write() -> None:
                while True:
                    await c.create_event(action_type="step", agent_id=agent)
                    await asyncio.sleep(0.2)

            writer = asyncio.create_task(write())
            seen = []
            async for event in c.stream_events(agent_id=agent):
                seen.append(event.id)
                if len(seen) == 3:
                    break
            writer.cancel()
            self.assertEqual(len(set(seen)), 3)
