"""The client of Konstruct: an audit trail of what agents do, and a knowledge base, over HTTP.

    from konstruct import Konstruct

    client = Konstruct("http://127.0.0.1:7117", key="kst_…")  # or KONSTRUCT_URL and KONSTRUCT_KEY
    client.create_event(action_type="tool_invocation", input_summary='{"order":17}')
    for hit in client.search(text="How do I return a pump?").hits:
        print(hit.filename, hit.content)
"""

from ._tool import Unwritten, conversation, set_client, tool
from ._values import FileContent, Options
from .client import AsyncKonstruct, Konstruct, async_items, items
from .errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    KonstructError,
    NotFoundError,
    NotModified,
    PermissionDeniedError,
    ProblemError,
    RateLimitedError,
    TrailNotWrittenError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncKonstruct", "AuthenticationError", "ConflictError", "FileContent", "InvalidRequestError", "Konstruct",
    "KonstructError", "NotFoundError", "NotModified", "Options", "PermissionDeniedError", "ProblemError",
    "RateLimitedError", "TrailNotWrittenError", "UnavailableError", "UnexpectedAnswerError", "UnreachableError",
    "Unwritten", "async_items", "conversation", "items", "set_client", "tool",
]
