#!/usr/bin/env bash
# Audits the model and seals the bundle. Exit codes are those of `affidavit run`.
# AFFIDAVIT_KEY_PEM: the sealing key, from a secret. AFFIDAVIT_CERTIFICATE: its certificate. AFFIDAVIT_CONFIG: audit.toml, or
# empty. AFFIDAVIT_BUNDLE: where to; a bundle that is there already is not made again.
# AFFIDAVIT_AGAINST: the bundle of the release before, or empty: its suites and settings are used, and the difference is
# written beside the bundle, as its name with -difference. The certificate must stand for both signers.
set -Eeuo pipefail
trap 'echo "error: the audit could not be started" >&2; exit 4' ERR
if [ -z "${AFFIDAVIT_BUNDLE:-}" ]; then
    echo "error: set AFFIDAVIT_BUNDLE to the folder of the new bundle" >&2
    exit 2
fi
python=${PYTHON:-python3}
sealed=attestation.sigstore.json
difference=$AFFIDAVIT_BUNDLE-difference
if [ -e "$AFFIDAVIT_BUNDLE/$sealed" ] && { [ -z "${AFFIDAVIT_AGAINST:-}" ] || [ -e "$difference/$sealed" ]; }; then
    echo "$AFFIDAVIT_BUNDLE is sealed already"
    exit 0
fi
if [ -z "${AFFIDAVIT_KEY_PEM:-}" ] || [ -z "${AFFIDAVIT_CERTIFICATE:-}" ]; then
    echo "error: no key: set the secret AFFIDAVIT_KEY_PEM and the path AFFIDAVIT_CERTIFICATE" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Readable by nobody else: the tool refuses a key that others can read.
(umask 077 && printf '%s\n' "$AFFIDAVIT_KEY_PEM" >"$folder/key.pem")
key=(--key "$folder/key.pem" --cert "$AFFIDAVIT_CERTIFICATE")
if [ -e "$AFFIDAVIT_BUNDLE/$sealed" ]; then
    # A run that was killed between the two: the audit is not made again.
    "$python" -m audit diff "$AFFIDAVIT_AGAINST" "$AFFIDAVIT_BUNDLE" --out "$difference" \
        --trust "$AFFIDAVIT_CERTIFICATE" "${key[@]}" || exit $?
    exit 0
fi
options=("${key[@]}" --out "$AFFIDAVIT_BUNDLE")
if [ -n "${AFFIDAVIT_CONFIG:-}" ]; then
    options+=(--config "$AFFIDAVIT_CONFIG")
fi
if [ -n "${AFFIDAVIT_AGAINST:-}" ]; then
    options+=(--against "$AFFIDAVIT_AGAINST" --trust "$AFFIDAVIT_CERTIFICATE")
fi
"$python" -m audit run "${options[@]}" || exit $?
