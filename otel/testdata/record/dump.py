"""Prints an export as a person reads it:  python3 dump.py FILE... (needs opentelemetry-proto)"""

import gzip
import json
import sys

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def plain(v):
    kind = v.WhichOneof("value")
    if kind == "array_value":
        return [plain(x) for x in v.array_value.values]
    if kind == "kvlist_value":
        return {x.key: plain(x.value) for x in v.kvlist_value.values}
    return getattr(v, kind) if kind else None


BORING = ("telemetry.", "anthropic.", "terminal.", "host.", "os.", "hook_", "num_", "process.")


def attributes(given, indent):
    for a in given:
        if a.key.startswith(BORING):
            continue
        print(f"{indent}{a.key} = {str(plain(a.value))[:400]!r} ({a.value.WhichOneof('value')})")


def hexa(text):
    """OTLP/JSON has ids in hexadecimal, where protobuf's JSON has base64."""
    import base64

    def walk(v):
        if isinstance(v, dict):
            return {k: base64.b64encode(bytes.fromhex(x)).decode()
                    if k in ("traceId", "spanId", "parentSpanId") and x else walk(x) for k, x in v.items()}
        return [walk(x) for x in v] if isinstance(v, list) else v
    return json.dumps(walk(json.loads(text)))


for path in sys.argv[1:]:
    raw = open(path, "rb").read()
    if path.endswith(".gz"):
        raw, path = gzip.decompress(raw), path[:-3]
    logs = ".logs." in path
    m = ExportLogsServiceRequest() if logs else ExportTraceServiceRequest()
    if path.endswith(".json"):
        Parse(hexa(raw), m, ignore_unknown_fields=True)
    else:
        m.ParseFromString(raw)
    print("==", path, len(raw))
    for r in m.resource_logs if logs else m.resource_spans:
        attributes(r.resource.attributes, "  R ")
        for s in r.scope_logs if logs else r.scope_spans:
            print("  SCOPE", s.scope.name, s.scope.version)
            attributes(s.scope.attributes, "    S ")
            for x in s.log_records if logs else s.spans:
                if logs:
                    print("    LOG", x.event_name, x.trace_id.hex()[:6], x.span_id.hex()[:6], x.severity_text)
                    print("      body", str(plain(x.body))[:600])
                else:
                    print("    SPAN", x.name, "kind", x.kind, x.trace_id.hex()[:6], x.span_id.hex()[:6], "<-",
                          x.parent_span_id.hex()[:6], "status", x.status.code, x.status.message[:200])
                attributes(x.attributes, "      ")
                for e in getattr(x, "events", []):
                    print("      EVENT", e.name)
                    attributes(e.attributes, "        ")
                for k in getattr(x, "links", []):
                    print("      LINK", k.trace_id.hex()[:6], k.span_id.hex()[:6])
