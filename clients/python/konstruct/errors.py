"""What can go wrong, each with what to do about it."""

from __future__ import annotations

from typing import Any

from .types import FieldProblem, Problem


class KonstructError(Exception):
    """Every error of this package."""


class UnreachableError(KonstructError):
    """The service can't be reached, or the connection broke before the answer."""


class UnexpectedAnswerError(KonstructError):
    """The answer is not what the API's description says: the address leads to something else, or is too new."""


class NotModified(KonstructError):
    """What if_none_match named is current (304)."""


class TrailNotWrittenError(KonstructError):
    """A tool's call is not on the trail. The tool has run: result is what it returned."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class ProblemError(KonstructError):
    """The service refused the request, and said why (RFC 9457)."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        lines = [f"{problem.status} {problem.title}: {problem.detail}"]
        lines += [f"{e.location}: {e.message}" for e in self.errors]
        if problem.instance:
            lines.append(f"request {problem.instance}")
        super().__init__("\n".join(lines))

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What is wrong, and what to do."""
        return self.problem.detail

    @property
    def errors(self) -> list[FieldProblem]:
        """Each field that is wrong: where it is, and how to fix it."""
        return self.problem.errors or []


class InvalidRequestError(ProblemError):
    """A field is wrong (400, 413, 414, 415, 422): errors says which, and the fix."""


class AuthenticationError(ProblemError):
    """The key is missing, wrong or revoked (401)."""


class PermissionDeniedError(ProblemError):
    """The key lacks a permission (403): detail names it."""


class NotFoundError(ProblemError):
    """There is no such thing, or it is another tenant's (404)."""


class ConflictError(ProblemError):
    """It contradicts what is there (409, 412)."""


class RateLimitedError(ProblemError):
    """The tenant's limit was reached (429), after all retries."""


class UnavailableError(ProblemError):
    """The service can't do it now (503), after all retries."""


_by_status: dict[int, type[ProblemError]] = {
    400: InvalidRequestError, 413: InvalidRequestError, 414: InvalidRequestError, 415: InvalidRequestError,
    422: InvalidRequestError, 401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError,
    409: ConflictError, 412: ConflictError, 429: RateLimitedError, 503: UnavailableError,
}


def problem_error(problem: Problem) -> ProblemError:
    """The error of a problem's status."""
    return _by_status.get(problem.status, ProblemError)(problem)
