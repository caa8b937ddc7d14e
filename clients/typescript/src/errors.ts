/** What can go wrong, each with what to do about it. */
import type { FieldProblem, Problem } from "./types.ts";

/** Every error of this package. */
export class KonstructError extends Error {
  override name = "KonstructError";
}

/** The service can't be reached, or the connection broke before the answer. */
export class UnreachableError extends KonstructError {
  override name = "UnreachableError";
}

/** The answer is not what the API's description says: the address leads to something else, or is too new. */
export class UnexpectedAnswerError extends KonstructError {
  override name = "UnexpectedAnswerError";
}

/** What ifNoneMatch named is current (304). */
export class NotModified extends KonstructError {
  override name = "NotModified";
}

/** A tool's call is not on the trail. The tool has run: result is what it returned. */
export class TrailNotWrittenError extends KonstructError {
  override name = "TrailNotWrittenError";
  readonly result: unknown;

  constructor(message: string, result: unknown, options?: ErrorOptions) {
    super(message, options);
    this.result = result;
  }
}

/** The service refused the request, and said why (RFC 9457). */
export class ProblemError extends KonstructError {
  override name = "ProblemError";
  readonly problem: Problem;

  constructor(problem: Problem) {
    const lines = [`${problem.status} ${problem.title}: ${problem.detail}`];
    for (const e of problem.errors ?? []) lines.push(`${e.location}: ${e.message}`);
    if (problem.instance) lines.push(`request ${problem.instance}`);
    super(lines.join("\n"));
    this.problem = problem;
  }

  /** The HTTP status. */
  get status(): number {
    return this.problem.status;
  }

  /** What is wrong, and what to do. */
  get detail(): string {
    return this.problem.detail;
  }

  /** Each field that is wrong: where it is, and how to fix it. */
  get errors(): FieldProblem[] {
    return this.problem.errors ?? [];
  }
}

/** A field is wrong (400, 413, 414, 415, 422): errors says which, and the fix. */
export class InvalidRequestError extends ProblemError {
  override name = "InvalidRequestError";
}

/** The key is missing, wrong or revoked (401). */
export class AuthenticationError extends ProblemError {
  override name = "AuthenticationError";
}

/** The key lacks a permission (403): detail names it. */
export class PermissionDeniedError extends ProblemError {
  override name = "PermissionDeniedError";
}

/** There is no such thing, or it is another tenant's (404). */
export class NotFoundError extends ProblemError {
  override name = "NotFoundError";
}

/** It contradicts what is there (409, 412). */
export class ConflictError extends ProblemError {
  override name = "ConflictError";
}

/** The tenant's limit was reached (429), after all retries. */
export class RateLimitedError extends ProblemError {
  override name = "RateLimitedError";
}

/** The service can't do it now (503), after all retries. */
export class UnavailableError extends ProblemError {
  override name = "UnavailableError";
}

const byStatus: Record<number, typeof ProblemError> = {
  400: InvalidRequestError,
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  412: ConflictError,
  413: InvalidRequestError,
  414: InvalidRequestError,
  415: InvalidRequestError,
  422: InvalidRequestError,
  429: RateLimitedError,
  503: UnavailableError,
};

/** The error of a problem's status. */
export function problemError(problem: Problem): ProblemError {
  return new (byStatus[problem.status] ?? ProblemError)(problem);
}
