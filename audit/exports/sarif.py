"""SARIF 2.1.0 (OASIS, with Errata 01): what code scanning services and SARIF viewers read.

A rule is a question, a result its answer or a claim that stands. Without a policy no result is `pass` or `fail`:
`informational` is an answer, `review` a doubtful one, `open` no answer, `notApplicable` a question that was not put.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from audit.digests import Json, canonical_json, digest_json
from audit.exports.answers import Answer, Claim, Standing
from audit.exports.questions import answers, control_holds, control_words
from audit.exports.sarif_terms import SCHEMA, message_text
from audit.exports.source import NAMESPACE, ExportSource, hex_of, line, stable_uuid
from audit.records import Colour
from audit.signing.bundle_files import EVIDENCE, FINDINGS

_BASE = "BUNDLE"
_FINDINGS_INDEX = 0
_KINDS = {
    Standing.ANSWERED: "informational",
    Standing.DOUBTFUL: "review",
    Standing.OPEN: "open",
    Standing.NOT_PUT: "notApplicable",
}


def sarif(source: ExportSource) -> bytes:
    """Return report.sarif; canonical JSON, equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    asked = answers(source.findings)
    log: dict[str, Json] = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(source, asked)]}
    return canonical_json(log)


def _run(source: ExportSource, asked: Sequence[Answer]) -> Json:
    findings, run = source.findings, source.run
    not_tested = sorted(line(text) for text in findings.not_tested)
    standings = Counter(answer.standing for answer in asked)
    properties: dict[str, Json] = {
        "policy": source.policy,
        "createdAt": source.stamp,
        "findingsDigest": run.findings_digest,
        "bundle": line(run.bundle_name),
        "questions": {standing.value: standings[standing] for standing in Standing},
        "ladder": source.ladder,
        "notListed": sum(answer.not_listed for answer in asked),
        "notListedMeaning": f"findings that did not stand; {FINDINGS} has each with its reason",
        "permutationControl": control_words(findings.permutation_control),
        "notTested": list(not_tested),
    }
    if source.withheld is not None:
        properties["redactedCopyOf"] = source.withheld.statement
    return {
        "tool": {"driver": _driver(source, asked)},
        "automationDetails": {
            "id": f"affidavit/{line(findings.model.name)}/",
            "guid": source.uuid("sarif"),
            "description": {"text": message_text(f"Audit of {line(findings.model.name)}. {source.policy}")},
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "commandLine": line(run.command),
                "startTimeUtc": source.stamp,
                "toolExecutionNotifications": list(_notifications(source)),
            }
        ],
        "originalUriBaseIds": {_BASE: {"description": {"text": "The folder of the sealed bundle."}}},
        "artifacts": _artifacts(source),
        "results": [result for number, answer in enumerate(asked) for result in _results(source, number, answer)],
        "columnKind": "unicodeCodePoints",
        "properties": properties,
    }


def _driver(source: ExportSource, asked: Sequence[Answer]) -> Json:
    return {
        "name": "affidavit",
        "version": line(source.run.tool_version),
        "fullName": f"affidavit {line(source.run.tool_version)}",
        "shortDescription": {"text": "Audits a language model through its sparse autoencoder."},
        "guid": stable_uuid("tool", NAMESPACE),
        "rules": [
            {
                "id": answer.id,
                "name": answer.heading,
                "shortDescription": {"text": message_text(answer.heading)},
                "fullDescription": {"text": message_text(f"{answer.heading}. {answer.asks}")},
                "help": {"text": message_text(f"{answer.asks} {source.policy}")},
                "defaultConfiguration": {"level": "none"},
                "properties": {"tags": ["model-audit", answer.kind.value], "domain": line(answer.domain)},
            }
            for answer in asked
        ],
    }


def _artifacts(source: ExportSource) -> list[Json]:
    model = source.findings.model
    named = f"urn:uuid:{stable_uuid('model', model.digest)}"
    instruments: list[Json] = [
        {
            "location": {"uri": f"urn:uuid:{stable_uuid('sae', sae.record.digest, sae.record.name)}"},
            "description": {"text": message_text(f"The instrument, SAE {line(sae.record.name)}.")},
            "roles": ["toolSpecifiedConfiguration"],
            "properties": {
                "digest": line(sae.record.digest),
                "site": line(sae.record.site),
                "colour": sae.fidelity.colour.value,
            },
        }
        for sae in sorted(source.findings.saes, key=lambda sae: sae.record.name)
    ]
    return [
        _file(FINDINGS, "application/json", source.run.findings_digest, "Every finding of the audit."),
        _file(EVIDENCE, "application/vnd.duckdb", source.evidence, "The evidence, as tables."),
        {
            "location": {"uri": named},
            "description": {"text": message_text(f"The audited model, {line(model.name)}.")},
            "roles": ["analysisTarget"],
            "properties": {
                "digest": line(model.digest),
                "digestOf": "the sorted names and SHA-256 digests of the model's files",
                "architecture": line(model.architecture),
                "source": line(model.source),
                "parameters": model.parameters,
            },
        },
        *instruments,
    ]


def _file(name: str, kind: str, digest: str | None, description: str) -> Json:
    file: dict[str, Json] = {
        "location": {"uri": name, "uriBaseId": _BASE},
        "mimeType": kind,
        "description": {"text": description},
    }
    value = hex_of(digest) if digest is not None else None
    return file | {"hashes": {"sha-256": value}} if value is not None else file


def _notifications(source: ExportSource) -> Iterator[Json]:
    """Yield what a reader must know of the audit itself; an error where no finding of it can be relied on."""
    control = source.findings.permutation_control
    level = "note" if control_holds(control) else "error"
    yield {"level": level, "message": {"text": message_text(control_words(control))}}
    for sae in sorted(source.findings.saes, key=lambda sae: sae.record.name):
        text = f"SAE {line(sae.record.name)} is rated {sae.fidelity.colour.value}: {line(sae.fidelity.reason)}."
        level = "warning" if sae.fidelity.colour is Colour.RED else "note"
        yield {"level": level, "message": {"text": message_text(text)}}
    for text in sorted(source.findings.not_tested):
        yield {"level": "note", "message": {"text": message_text(f"Not tested: {line(text)}")}}


def _results(source: ExportSource, number: int, answer: Answer) -> Iterator[Json]:
    said = f"{answer.heading}: {answer.short}. {answer.said}"
    yield _result(source, number, answer, said=said, figures=answer.figures, query=answer.query)
    for claim in answer.claims:
        yield _result(source, number, answer, said=claim.said, figures=claim.figures, query=claim.query, claim=claim)


def _result(
    source: ExportSource,
    number: int,
    answer: Answer,
    *,
    said: str,
    figures: Mapping[str, Json],
    query: str,
    claim: Claim | None = None,
) -> Json:
    subject = line(claim.id) if claim is not None else ""
    properties: dict[str, Json] = {**figures, "standing": answer.standing.value, "query": query}
    if claim is not None:
        properties["finding"] = subject
    else:
        properties |= {"nScenarios": answer.n_scenarios, "notListed": answer.not_listed}
    places = [part for part in (answer.domain, answer.part, answer.contrast or answer.kind.value) if part]
    return {
        "ruleId": answer.id,
        "ruleIndex": number,
        "kind": _KINDS[answer.standing],
        # Only a result of kind `fail` has a level (SARIF 2.1.0, 3.27.10).
        "level": "none",
        "message": {"text": message_text(said)},
        "guid": source.uuid("sarif", answer.id, subject),
        # Without the model's digest: the same question to the next version of a model is the same result.
        "partialFingerprints": {"affidavitQuestion/v1": digest_json([answer.id, subject])},
        "analysisTarget": {"uri": f"urn:uuid:{stable_uuid('model', source.findings.model.digest)}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": FINDINGS, "uriBaseId": _BASE, "index": _FINDINGS_INDEX},
                    # Canonical JSON is one line. Services that show results in a file refuse those without a line.
                    "region": {"startLine": 1, "endLine": 1},
                },
                "logicalLocations": [
                    {
                        "name": line(answer.part),
                        "fullyQualifiedName": "/".join(map(line, places)),
                        "kind": "scenario set",
                    }
                ],
            }
        ],
        "properties": properties,
    }
