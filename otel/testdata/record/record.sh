#!/bin/sh
# Records again what real SDKs export: makes an environment for each source outside of the repository, runs its cases
# against the fake provider, and rewrites ../exports (and ../../../hook/testdata/recorded). Needs Python 3.11 with venv,
# Node 20 with npm, and the package registries. It is no part of `make test`.
#
#   ./record.sh [SOURCE...]     # every source, or those named
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${RECORD_FOLDER:-/tmp/konstruct-record}
python=${PYTHON:-python3}
mkdir -p "$folder/venv" "$folder/node"
cd "$here"
for source in ${*:-$("$python" -c 'import cases; print(*cases.SOURCES)')}; do
    place=$("$python" -c "import cases; print(cases.SOURCES['$source']['venv'])")
    if [ -f "requirements/$place.txt" ] && [ ! -x "$folder/venv/$place/bin/python" ]; then
        "$python" -m venv "$folder/venv/$place"
        "$folder/venv/$place/bin/pip" install -q --disable-pip-version-check -r "requirements/$place.txt"
    fi
    if [ -f "requirements/$place.package.json" ] && [ ! -d "$folder/node/$place/node_modules" ]; then
        mkdir -p "$folder/node/$place"
        cp "requirements/$place.package.json" "$folder/node/$place/package.json"
        (cd "$folder/node/$place" && npm install --no-audit --no-fund --silent)
    fi
    "$python" record.py "$folder" "$source"

done
"$python" table.py
