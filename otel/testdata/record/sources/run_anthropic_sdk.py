"""Anthropic's SDK alone: it makes spans by itself as soon as a tracer provider is set."""

import sys

import calls
import common

traces, logs = common.tracing(logs=True)
calls.anthropic(sys.argv[1])
common.finish(traces, logs)
