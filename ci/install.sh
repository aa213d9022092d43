#!/usr/bin/env bash
# Installs affidavit with the versions that its tests ran with, and torch's CPU build where the index asks for options.
# AFFIDAVIT_SOURCE: what pip installs, a folder or a requirement. AFFIDAVIT_CONSTRAINTS: its constraints file.
# TORCH_OPTIONS: pip options that choose an index with the CPU build.
set -Eeuo pipefail
# pip answers 1, which must not read as a failed gate.
trap 'echo "error: affidavit could not be installed" >&2; exit 4' ERR
if [ -z "${AFFIDAVIT_SOURCE:-}" ]; then
    echo "error: set AFFIDAVIT_SOURCE to a folder of affidavit, or to a requirement such as affidavit==0.1.0" >&2
    exit 2
fi
python=${PYTHON:-python3}
constraint=()
if [ -n "${AFFIDAVIT_CONSTRAINTS:-}" ]; then
    constraint=(--constraint "$AFFIDAVIT_CONSTRAINTS")
    # shellcheck disable=SC2086 # several options in one variable
    "$python" -m pip install --quiet ${TORCH_OPTIONS:-} "${constraint[@]}" "$(grep '^torch==' "$AFFIDAVIT_CONSTRAINTS")"
fi
"$python" -m pip install --quiet "${constraint[@]}" "$AFFIDAVIT_SOURCE"
"$python" -m audit --version
