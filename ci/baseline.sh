#!/usr/bin/env bash
# Brings the bundle of the release before to a folder, and says where: one line `baseline=FOLDER`, empty where there is none.
# AFFIDAVIT_BASELINE_FROM: path, artefact, release or none.
# AFFIDAVIT_BASELINE: path: a folder or a .tar.gz; artefact, release: the address of a .tar.gz.
# AFFIDAVIT_BASELINE_SHA256: of the archive; asked for where it comes over the network without a login of its own.
# AFFIDAVIT_BASELINE_TOKEN: a token for the address, from a secret. AFFIDAVIT_BASELINE_OUT: where to unpack.
# A missing base is no error here: whether a first release may pass is for the policy to say. Exit 4: the network.
set -Eeuo pipefail
# A step that breaks must not read as a failed gate (1).
trap 'echo "error: the step for the base broke in line $LINENO" >&2; exit 4' ERR
from=${AFFIDAVIT_BASELINE_FROM:-none}
place=${AFFIDAVIT_BASELINE:-}
out=${AFFIDAVIT_BASELINE_OUT:-affidavit-baseline}

tell() {
    echo "baseline=$1"
    if [ -n "${GITHUB_OUTPUT:-}" ]; then
        echo "baseline=$1" >>"$GITHUB_OUTPUT"
    fi
}

refuse() {
    echo "error: $1" >&2
    exit "$2"
}

unpack() {
    rm -rf "$out" "$out.part"
    mkdir -p "$out.part"
    # Names that lead out of the folder, links and devices have no place in a bundle.
    local names
    names=$(tar -tvzf "$1") || refuse "$1 is no .tar.gz" 3
    if printf '%s\n' "$names" | grep -qvE '^[-d]' || tar -tzf "$1" | grep -qE '(^/|(^|/)\.\.(/|$))'; then
        refuse "$1 holds links, devices or names that lead out of it" 3
    fi
    tar -xzf "$1" -C "$out.part" --no-same-owner
    local found
    found=$(find "$out.part" -maxdepth 2 -name attestation.sigstore.json | head -n 1)
    [ -n "$found" ] || refuse "$1 holds no sealed bundle" 3
    mkdir -p "$(dirname "$out")"
    mv "$(dirname "$found")" "$out"
    rm -rf "$out.part"
    tell "$out"
}

fetch() {
    local status
    # Not local: it is removed at the exit of the script.
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    local options=(--silent --show-error --location --max-time 600 --retry 2 --output "$archive" --write-out '%{http_code}')
    if [ -n "${AFFIDAVIT_BASELINE_TOKEN:-}" ]; then
        # From stdin: an argument could be read by other users of the machine.
        status=$(printf 'header = "Authorization: Bearer %s"\n' "$AFFIDAVIT_BASELINE_TOKEN" | curl "${options[@]}" --config - -- "$place") \
            || refuse "$place cannot be reached" 4
    else
        status=$(curl "${options[@]}" -- "$place") || refuse "$place cannot be reached" 4
    fi
    case $status in
        200) ;;
        404 | 410) echo "no base at $place" >&2 && tell "" && exit 0 ;;
        *) refuse "$place answered $status" 4 ;;
    esac
    if [ -n "${AFFIDAVIT_BASELINE_SHA256:-}" ]; then
        echo "$AFFIDAVIT_BASELINE_SHA256  $archive" | sha256sum --check --status \
            || refuse "$place has another SHA-256 than $AFFIDAVIT_BASELINE_SHA256" 3
    fi
    unpack "$archive"
}

case $from in
    none) tell "" ;;
    path)
        [ -n "$place" ] || refuse "AFFIDAVIT_BASELINE is empty" 2
        if [ -d "$place" ]; then
            tell "$place"
        elif [ -f "$place" ]; then
            unpack "$place"
        else
            echo "no base at $place" >&2
            tell ""
        fi
        ;;
    artefact | release)
        case $place in
            http://* | https://*) fetch ;;
            *) refuse "AFFIDAVIT_BASELINE is no http or https address" 2 ;;
        esac
        ;;
    *) refuse "AFFIDAVIT_BASELINE_FROM is none of path, artefact, release, none" 2 ;;
esac
