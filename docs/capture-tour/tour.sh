#!/bin/bash
# Five minutes with an agent: what it does lands on the trail, a person decides about one of its calls, and a stranger
# verifies all of it. tour.sh --yes answers by itself. When it ends, nothing is left but the Python packages.
set -euo pipefail
yes=
case "$*" in
  --yes) yes=1 ;;
  '') ;;
  *) echo "usage: tour.sh [--yes]" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

bold='' dim='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
fail() { echo "tour: $*" >&2; exit 1; }
# run COMMAND…: shows a command, and runs it.
run() {
  local arg shown=''
  for arg; do
    [[ $arg != *' '* ]] || arg="\"$arg\""
    shown="$shown$arg "
  done
  show "${shown% }"
  "$@" 2>&1
}

[ -x "$root/bin/konstruct" ] || fail "there is no bin/konstruct: run make setup build"
while read -r name; do # what the reader has set is not the tour's
  [[ $name == KONSTRUCT_ASSETS_DIR || ! $name =~ ^(KONSTRUCT|OTEL|OPENAI)_ ]] || unset "$name"
done < <(compgen -e)
if [ -n "${KONSTRUCT_ASSETS_DIR:-}" ]; then parts=$KONSTRUCT_ASSETS_DIR
elif [ "$(id -u)" = 0 ]; then parts=/var/lib/konstruct
else parts=${XDG_DATA_HOME:-$HOME/.local/share}/konstruct; fi

# The Python packages are those that scripts/setup test fetches. Without them, the same versions go to .data.
python=python3
packages=$parts/sdk/python/newest
if [ -f "$parts/sdk/versions" ]; then
  export PYTHONPATH=$packages
else
  lock=$root/scripts/sdk/python/newest/requirements.txt
  python=$root/.data/capture-tour/bin/python3
  if ! cmp -s "$lock" "$root/.data/capture-tour/lock"; then
    step "Fetch the agent's Python packages into .data/capture-tour, once"
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
      fail "the packages are pinned for Python 3.11 to 3.13, and python3 is $(python3 --version)"
    run python3 -m venv --clear "$root/.data/capture-tour"
    run "$python" -m pip install -q --disable-pip-version-check --only-binary=:all: --no-deps --require-hashes \
      -r "$lock"
    cp "$lock" "$root/.data/capture-tour/lock"
  fi
fi

work=$(mktemp -d)
chmod 711 "$work" # PostgreSQL is another user's where root starts it
cd "$work"
started='' last=''
finish() {
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
# line_of PROGRAM PATTERN: waits until a program that was started last writes a line to PROGRAM.log, and prints it.
line_of() {
  for _ in $(seq 300); do
    if grep -sEm1 "$2" "$1.log"; then return; fi
    kill -0 $last 2>/dev/null || break
    sleep 0.2
  done
  cat "$1.log" >&2
  fail "$1 did not start"
}
export PATH=$root/bin:$PATH KONSTRUCT_DATA_DIR=$work/data KONSTRUCT_CAPTURE_DIR=$work/capture
export KONSTRUCT_TENANT=11111111-1111-4111-8111-111111111111

step "1. Start the service on a private database. Make a key with which an agent may write events."
show "konstruct serve &"
KONSTRUCT_LISTEN=127.0.0.1:0 KONSTRUCT_METRICS_LISTEN=off KONSTRUCT_OTLP_GRPC_LISTEN=127.0.0.1:0 \
  konstruct serve &>serve.log &
last=$! started="$! $started"
line_of serve 'serving at'
KONSTRUCT_URL=$(sed -nE 's/.*serving at ([^ ]+).*/\1/p' serve.log)
konstruct dev db >database.env 2>/dev/null # with this configuration, no command says which database it uses
export KONSTRUCT_CONFIG=$work/database.env KONSTRUCT_URL
show "konstruct key create support-agent --permission events:write > agent.key"
konstruct key create support-agent --permission events:write >agent.key 2>key.log

step "2. Run an agent. Variables say where its spans go, and where the MCP proxy before its server sends events."
python3 "$here/model.py" &>model.log &
last=$! started="$! $started"
OPENAI_BASE_URL=$(line_of model '^http')
export OPENAI_BASE_URL OPENAI_API_KEY=none OTEL_EXPORTER_OTLP_ENDPOINT=$KONSTRUCT_URL OTEL_SERVICE_NAME=support
export OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only
export OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental # which has contents on spans
show "export OPENAI_BASE_URL=$OPENAI_BASE_URL OTEL_EXPORTER_OTLP_ENDPOINT=$KONSTRUCT_URL"
show 'export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer $(cat agent.key)"'
show "export KONSTRUCT_URL=$KONSTRUCT_URL KONSTRUCT_KEY_FILE=agent.key"
question="Order 17 came broken. I want my money back."
show "python3 agent.py \"$question\" &"
OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer $(cat agent.key)" KONSTRUCT_KEY_FILE=agent.key \
  "$python" "$here/agent.py" "$question" &>agent.log &
last=$! started="$! $started"
line_of agent '^trace '
trace=$(sed -n 's/^trace //p' agent.log)

step "3. The model wants a refund. rules.json says that a person decides. The call waits, and the shop has not seen it."
escalation=
for _ in $(seq 300); do
  escalation=$(konstruct audit escalations --state open --json | sed -nE 's/.*"id": *"([^"]+)".*/\1/p')
  if [ -n "$escalation" ] || ! kill -0 $last 2>/dev/null; then break; fi
  sleep 0.2
done
[ -n "$escalation" ] || { cat agent.log >&2; fail "the agent asked nobody"; }
run konstruct audit escalations --state open
run cat refunds.txt || true

step "4. Answer. A decision that begins with allow lets the call pass. The model reads any other one."
decision="allow, the customer sent a photo"
[ -n "$yes" ] || decision=
until [ -n "$decision" ]; do read -rp "Your decision: " decision || fail "nobody answers: run tour.sh --yes"; done
run konstruct audit escalations resolve "$escalation" --by ada --decision "$decision"
wait $last || { cat agent.log >&2; fail "the agent failed"; }
echo "the agent says: $(tail -n1 agent.log)"
run cat refunds.txt || true

step "5. See the run as a tree. The model's calls are from OpenTelemetry, what the tools did is from the proxy."
run konstruct audit run "$trace"
run konstruct audit stats --run "$trace" --by action,model

step "6. Sign, and make a bundle of evidence of this run."
run konstruct notary run --once
show "konstruct notary key show > notary.key"
konstruct notary key show >notary.key
run konstruct audit evidence --meta "trace_id=$trace" -o run.zip

step "7. Verify the bundle as a stranger does, with one file and one key: no database, no network, no configuration."
mkdir stranger
cp run.zip notary.key "$root/bin/konstruct" stranger
cd stranger
run env -i ./konstruct verify run.zip --key notary.key
