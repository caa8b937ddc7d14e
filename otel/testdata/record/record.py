"""Runs the sources' cases against the fake provider, and rewrites ../exports from what the real SDKs sent.

    python3 record.py FOLDER SOURCE [CASE...]

FOLDER has the virtual environments and Node packages that record.sh made. A source is a script in sources/; it is run
once for each of its cases, in a process of its own with a clean environment. What it knows beyond the provider's books
(tools that ran, agents' names, session, user), it prints as lines `EXPECT {...}`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import cases
import sink
import upstream

HERE = pathlib.Path(__file__).resolve().parent
EXPORTS = HERE.parent / "exports"
HOOKS = HERE.parent.parent.parent / "hook" / "testdata" / "recorded"
OF_CALL = ("api", "model", "response_model", "response_id", "request_id", "status", "stream", "usage_sent", "input_tokens",
           "output_tokens", "cached_tokens", "cache_creation_tokens", "reasoning_tokens", "finish_reason", "prompt",
           "completion", "tool_calls", "usage")


def environment(folder, provider, endpoint, extra):
    home = pathlib.Path(folder) / "home"
    home.mkdir(exist_ok=True)
    up, down = (f"http://127.0.0.1:{s.server_address[1]}" for s in (provider, endpoint))
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "TZ": "UTC",
        "UPSTREAM": up, "SINK": down, "FOLDER": str(folder),
        "OPENAI_BASE_URL": up + "/v1", "OPENAI_API_BASE": up + "/v1", "OPENAI_API_KEY": "sk-recording",
        "ANTHROPIC_BASE_URL": up, "ANTHROPIC_API_KEY": "sk-ant-recording",
        "OTEL_EXPORTER_OTLP_ENDPOINT": down, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none", "OTEL_NODE_RESOURCE_DETECTORS": "env",
        "OTEL_SERVICE_NAME": "recording",
    } | {k: v.replace("$UPSTREAM", up).replace("$SINK", down) for k, v in extra.items()}


def wait_quiet(endpoint, seconds=1.0):
    seen, since = -1, time.time()
    while time.time() - since < seconds:
        if len(endpoint.got) != seen:
            seen, since = len(endpoint.got), time.time()
        time.sleep(0.05)


def run(folder, source, case, extra, provider, endpoint):
    spec = cases.SOURCES[source]
    # Tracebacks are exported: the scripts run from the folder, so that they tell no place of the repository.
    copy = pathlib.Path(folder) / "record"
    shutil.copytree(HERE / "sources", copy / "sources", dirs_exist_ok=True)
    shutil.copy(HERE / "hook_save.py", copy / "hook_save.py")
    script = copy / "sources" / spec["script"]
    env = environment(folder, provider, endpoint, extra)
    if script.suffix == ".py":
        python = pathlib.Path(folder) / "venv" / spec["venv"] / "bin" / "python"
        command = [str(python) if python.exists() else sys.executable, str(script), case]
    else:
        place = pathlib.Path(folder) / "node" / spec["venv"]
        shutil.copy(script, place / script.name)  # Node looks for packages beside the script
        command = ["node", str(place / script.name), case]
    done = subprocess.run(command, env=env, cwd=env["HOME"], capture_output=True, text=True,
                          timeout=300, stdin=subprocess.DEVNULL)
    wait_quiet(endpoint)
    if done.returncode:
        print(done.stdout[-1500:], done.stderr[-2500:], sep="\n", file=sys.stderr)
    elif os.environ.get("VERBOSE"):
        print(done.stdout[-1500:], done.stderr[-2500:], sep="\n", file=sys.stderr)
    extras = {}
    for line in done.stdout.splitlines():
        if line.startswith("EXPECT "):
            extras |= json.loads(line[len("EXPECT "):])
    return done.returncode, extras


def write(source, case, provider, endpoint, extras):
    out = EXPORTS / source
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{case}.*"):
        if not old.name.endswith(".events.txt"):  # what the mapping makes of it: go test ./otel -update
            old.unlink()
    n = {"traces": 0, "logs": 0}
    for g in endpoint.got:
        if g["signal"] == "metrics":
            continue
        n[g["signal"]] += 1
        name = f"{case}.{n[g['signal']]}.{g['signal']}.{g['ext']}"
        (out / name).write_bytes(g["body"])
        if g["gzip"] and cases.SOURCES[source].get("gzip") == case:
            (out / (name + ".gz")).write_bytes(g["gzip"])
    calls = [{k: e[k] for k in OF_CALL if k in e} for e in provider.journal.take()]
    for key in ("unexported", "usage_unexported"):
        for i in cases.SOURCES[source].get(key, {}).get(case, []):
            calls[i][key.replace("un", "", 1)] = False
    expect = {"llm_calls": [c for c in calls if c["api"] != "embeddings"],
              "embeddings": [c for c in calls if c["api"] == "embeddings"],
              "tool_calls": [], "retrievals": 0, "agents": [], "session": None, "user": None} | extras
    expect["total"] = {k: sum(c.get(k) or 0 for c in calls)
                       for k in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")}
    expect["request_paths"] = sorted({g["path"] for g in endpoint.got})
    (out / f"{case}.expect.json").write_text(json.dumps(expect, indent=1, ensure_ascii=False) + "\n")
    return n, len(calls)


def write_hooks(folder, source, case):
    """Keeps what the case's hooks got, and the order in which they ran."""
    got = pathlib.Path(folder) / "hooks" / source / case
    if not got.exists():
        return 0
    out = HOOKS / source / case
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = sorted(got.glob("*.json"), key=lambda f: f.stat().st_mtime_ns)
    for f in files:
        (out / f.name).write_bytes(f.read_bytes())
    (out / "order.txt").write_text("".join(f.name + "\n" for f in files))
    return len(files)


def main():
    folder, source, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    failed = 0
    for case, extra in cases.SOURCES[source]["cases"].items():
        if only and case not in only:
            continue
        keep = []
        provider = upstream.start(int(os.environ.get("UPSTREAM_PORT", 7801)), keep=keep)
        endpoint = sink.start(int(os.environ.get("SINK_PORT", 7802)))
        try:
            code, extras = run(folder, source, case, extra, provider, endpoint)
            if os.environ.get("KEEP"):
                pathlib.Path(os.environ["KEEP"]).write_text(json.dumps(keep, indent=1))
            if code:
                failed += 1
                print(f"FAILED {source}/{case}: exit {code}, {[k[0] for k in keep]}")
                continue
            hooks = write_hooks(folder, source, case)
            if case in cases.SOURCES[source].get("hooks_only", ()):
                print(f"{source}/{case}: {hooks} hooks")
                continue
            n, calls = write(source, case, provider, endpoint, extras)
            size = sum(f.stat().st_size for f in (EXPORTS / source).glob(f"{case}.*"))
            print(f"{source}/{case}: {n['traces']} traces, {n['logs']} logs, {calls} provider calls, {size} bytes")
        finally:
            for s in (provider, endpoint):
                s.shutdown()
                s.server_close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
