#!/usr/bin/env bash
# Puts a bundle to a policy. Exit codes are those of `affidavit gate`: 1 is a failed gate, 70 a defect of the tool.
# AFFIDAVIT_BUNDLE, AFFIDAVIT_POLICY, AFFIDAVIT_CERTIFICATE (pins the signer), AFFIDAVIT_BASELINE_BUNDLE (or empty).
# AFFIDAVIT_DIFFERENCE: the sealed difference to that bundle, or empty; one that is not there is not asked.
# AFFIDAVIT_RESULTS: the folder for gate.sarif, gate.xml, gate.md.
set -uo pipefail
for name in AFFIDAVIT_BUNDLE AFFIDAVIT_POLICY AFFIDAVIT_CERTIFICATE; do
    if [ -z "${!name:-}" ]; then
        echo "error: set $name" >&2
        exit 2
    fi
done
python=${PYTHON:-python3}
results=${AFFIDAVIT_RESULTS:-affidavit-results}
mkdir -p "$results" || exit 4
# Results of an earlier run must not stand in for this one's.
rm -f "$results/gate.sarif" "$results/gate.xml" "$results/gate.md"
options=(--policy "$AFFIDAVIT_POLICY" --trust "$AFFIDAVIT_CERTIFICATE")
options+=(--sarif "$results/gate.sarif" --junit "$results/gate.xml" --summary "$results/gate.md")
if [ -n "${AFFIDAVIT_DIFFERENCE:-}" ] && [ -e "$AFFIDAVIT_DIFFERENCE/attestation.sigstore.json" ]; then
    options+=(--difference "$AFFIDAVIT_DIFFERENCE")
elif [ -n "${AFFIDAVIT_BASELINE_BUNDLE:-}" ]; then
    options+=(--baseline "$AFFIDAVIT_BASELINE_BUNDLE")
fi
"$python" -m audit gate "$AFFIDAVIT_BUNDLE" "${options[@]}"
code=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    if [ -f "$results/gate.md" ]; then
        cat "$results/gate.md" >>"$GITHUB_STEP_SUMMARY"
    else
        printf '# The gate gave no answer (exit code %s)\n\nNothing was judged; the log of the step says why.\n' "$code" >>"$GITHUB_STEP_SUMMARY"
    fi
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    {
        echo "code=$code"
        if [ -f "$results/gate.sarif" ]; then
            echo "sarif=$results/gate.sarif"
        fi
    } >>"$GITHUB_OUTPUT"
fi
exit "$code"
