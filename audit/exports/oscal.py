"""OSCAL 1.1.3 assessment results (NIST): what GRC tools and authorising officials read.

Each question is an observation with its evidence. There is no `finding`: an OSCAL finding says that a control objective
is satisfied or is not, and an audit without a policy assesses no control. Who maps observations to controls does so in
their own assessment, where these observations can be cited by their UUIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from audit.digests import Json, canonical_json
from audit.exports.answers import Answer
from audit.exports.questions import answers, control_words
from audit.exports.source import NAMESPACE, ExportSource, hex_of, line, stable_uuid
from audit.records import InstrumentResult
from audit.signing.bundle_files import EVIDENCE, FINDINGS, MANIFEST, REPORT_PDF

OSCAL_VERSION = "1.1.3"
_NO_CONTROL = (
    "No control of any catalog was selected or assessed: the audit tests what a model tells apart, and no catalog was"
    " put to it. The observations may be cited as evidence in an assessment that does."
)


def oscal(source: ExportSource) -> bytes:
    """Return oscal-assessment-results.json; canonical JSON, equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    results: dict[str, Json] = {
        "uuid": source.uuid("oscal"),
        "metadata": _metadata(source),
        # There is no OSCAL assessment plan: the plan is the configuration that the manifest records.
        "import-ap": {
            "href": f"#{_resource_id(source, MANIFEST)}",
            "remarks": f"The plan of the audit is its configuration and suites, in {MANIFEST}.",
        },
        "results": [_result(source)],
        "back-matter": {"resources": list(_resources(source))},
    }
    return canonical_json({"assessment-results": results})


def _metadata(source: ExportSource) -> Json:
    run, party = source.run, source.uuid("oscal", "party")
    props = {
        "policy": source.policy,
        "findings-digest": run.findings_digest,
        "tool-version": run.tool_version,
        "seal-fingerprint": run.seal.fingerprint,
    }
    if source.withheld is not None:
        props["redacted-copy-of"] = source.withheld.statement
    return {
        "title": f"Audit of {line(source.findings.model.name)}",
        "last-modified": source.stamp,
        "version": line(run.tool_version),
        "oscal-version": OSCAL_VERSION,
        "props": _props(props),
        "roles": [{"id": "prepared-by", "title": "Who seals the bundle"}],
        "parties": [
            {"uuid": party, "type": "organization", "name": line(run.seal.organisation or run.seal.common_name)}
        ],
        "responsible-parties": [{"role-id": "prepared-by", "party-uuids": [party]}],
    }


def _result(source: ExportSource) -> Json:
    findings = source.findings
    observations: list[Json] = [_observation(source, answer) for answer in answers(findings)]
    limits = "".join(f" Not tested: {line(text)}" for text in sorted(findings.not_tested))
    result: dict[str, Json] = {
        "uuid": source.uuid("oscal", "result"),
        "title": f"Audit of {line(findings.model.name)}",
        "description": f"{source.policy} {control_words(findings.permutation_control)}{limits}",
        "start": source.stamp,
        "props": _props({f"ladder-{rung}": str(number) for rung, number in source.ladder.items()}),
        "local-definitions": {"components": list(_components(source))},
        "reviewed-controls": {
            "description": _NO_CONTROL,
            "props": _props({"controls-assessed": "0"}),
            # All controls of the imported catalogs and profiles, of which there are none; some readers refuse a
            # selection that selects nothing.
            "control-selections": [{"description": _NO_CONTROL, "include-all": {}}],
        },
    }
    return {
        key: value
        # An array of OSCAL has at least one member, or is not there.
        for key, value in (result | {"observations": observations}).items()
        if value != []
    }


def _components(source: ExportSource) -> Iterator[Json]:
    model = source.findings.model
    yield {
        "uuid": _model_id(source),
        "type": "software",
        "title": line(model.name),
        "description": "The audited language model.",
        "props": _props(
            {
                "digest": model.digest,
                "digest-of": "sorted names and SHA-256 digests of the files",
                "architecture": model.architecture,
                "source": model.source,
                "parameters": str(model.parameters),
                "dtype": model.dtype,
            }
        ),
        "status": {"state": "other", "remarks": "The audit does not know where the model is used."},
    }
    for sae in sorted(source.findings.saes, key=lambda sae: sae.record.name):
        yield {
            "uuid": _sae_id(sae),
            "type": "software",
            "title": line(sae.record.name),
            "description": "A sparse autoencoder, the instrument through which the model was read.",
            "props": _props(
                {
                    "digest": sae.record.digest,
                    "site": sae.record.site,
                    "colour": sae.fidelity.colour.value,
                    "colour-reason": sae.fidelity.reason,
                }
            ),
            "status": {"state": "other", "remarks": "An instrument of the audit, not a part of the system."},
        }


def _observation(source: ExportSource, answer: Answer) -> Json:
    claims = "".join(f" {claim.said}" for claim in answer.claims)
    named = {line(sae.record.name): _sae_id(sae) for sae in source.findings.saes}
    subjects: list[Json] = [{"subject-uuid": _model_id(source), "type": "component", "title": "the audited model"}]
    if line(answer.sae) in named:
        subjects.append({"subject-uuid": named[line(answer.sae)], "type": "component", "title": "the instrument"})
    props = {
        "question": answer.id,
        "standing": answer.standing.value.replace(" ", "-"),
        "answer": answer.short,
        "claims": str(len(answer.claims)),
        "not-listed": str(answer.not_listed),
        "domain": answer.domain,
    }
    if answer.n_scenarios is not None:
        props["n-scenarios"] = str(answer.n_scenarios)
    evidence = [FINDINGS, EVIDENCE]
    return {
        "uuid": source.uuid("oscal", "observation", answer.id),
        "title": answer.heading,
        "description": f"{answer.asks} {answer.short}. {answer.said}{claims}",
        "props": _props(props),
        "methods": ["TEST"],
        "types": ["model-audit"],
        "subjects": subjects,
        "relevant-evidence": [
            {
                "href": f"../{name}",
                "description": f"{name} of the sealed bundle; the query is {line(answer.query)}.",
                "links": [{"href": f"#{_resource_id(source, name)}", "rel": "evidence"}],
            }
            for name in evidence
        ],
        "collected": source.stamp,
    }


def _resources(source: ExportSource) -> Iterator[Json]:
    described = (
        (FINDINGS, "application/json", source.run.findings_digest, "Every finding of the audit."),
        (EVIDENCE, "application/vnd.duckdb", source.evidence, "The evidence, as tables that SQL reads."),
        # Made after this file, with its digest among others: the seal is over both.
        (MANIFEST, "application/json", None, "Configuration, environment and digests; under the bundle's seal."),
        (REPORT_PDF, "application/pdf", None, "The report for readers; under the bundle's seal."),
    )
    for name, kind, digest, description in described:
        link: dict[str, Json] = {"href": f"../{name}", "media-type": kind}
        value = hex_of(digest) if digest is not None else None
        if value is not None:
            link["hashes"] = [{"algorithm": "SHA-256", "value": value}]
        yield {"uuid": _resource_id(source, name), "title": name, "description": description, "rlinks": [link]}


def _resource_id(source: ExportSource, name: str) -> str:
    return source.uuid("oscal", "resource", name)


def _model_id(source: ExportSource) -> str:
    return stable_uuid("model", source.findings.model.digest)


def _sae_id(sae: InstrumentResult) -> str:
    return stable_uuid("sae", sae.record.digest, sae.record.name)


def _props(values: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "ns": NAMESPACE, "value": line(value)} for name, value in values.items()]
