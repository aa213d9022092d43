"""CycloneDX 1.6 (ECMA-424), a bill of materials of the audited model: what supply chain tools read.

The model is the component that the document is about, with a model card: metrics with intervals, and what limits them.
SAEs and suites are components, the tool and its libraries made the document. Own writer: cyclonedx-python-lib (11.12)
has no model cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from audit.digests import Json, canonical_json
from audit.exports.answers import Answer, Standing
from audit.exports.questions import answers, control_words
from audit.exports.source import ExportSource, hex_of, line, stable_uuid
from audit.records import Estimate, InstrumentResult, OutcomeResult, SuiteRecord
from reports.glossary import LIMITATIONS

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_TREE = "SHA-256 over the sorted names and SHA-256 digests of the files, not over one file"
# Entries of the environment that are no library of the package index.
_NO_LIBRARY = frozenset({"python", "system", "platform", "report code"})
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!_-]*")


def cyclonedx(source: ExportSource) -> bytes:
    """Return ml-bom.cdx.json; canonical JSON, equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    findings = source.findings
    asked = answers(findings)
    saes = sorted(findings.saes, key=lambda sae: sae.record.name)
    suites = sorted(findings.suites, key=lambda suite: suite.id)
    model = _model_ref(source)
    dependencies: list[Json] = [{"ref": model}]
    dependencies += [{"ref": _sae_ref(sae), "dependsOn": [model]} for sae in saes]
    components: list[Json] = [*(_sae(sae) for sae in saes), *(_suite(suite) for suite in suites)]
    document: dict[str, Json] = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{source.uuid('cyclonedx')}",
        "version": 1,
        "metadata": {
            "timestamp": source.stamp,
            "tools": {"components": list(_tools(source))},
            "authors": [{"name": line(source.run.seal.common_name)}],
            "component": _model(source, asked),
            "properties": _properties(_circumstances(source)),
        },
        "components": components,
        "dependencies": dependencies,
        # What the model was trained on and made from is not known to the audit.
        "compositions": [{"aggregate": "unknown", "assemblies": [model]}],
    }
    return canonical_json(document)


def _circumstances(source: ExportSource) -> dict[str, str]:
    findings, run = source.findings, source.run
    said = {
        "policy": source.policy,
        "findings-digest": run.findings_digest,
        "permutation-control": control_words(findings.permutation_control),
        "python": run.environment.get("python", "unknown"),
        "seal-fingerprint": run.seal.fingerprint,
        **{f"ladder:{rung}": str(number) for rung, number in source.ladder.items()},
    }
    return said if source.withheld is None else said | {"redacted-copy-of": source.withheld.statement}


def _tools(source: ExportSource) -> Iterator[Json]:
    run = source.run
    yield {
        "type": "application",
        "name": "affidavit",
        "version": line(run.tool_version),
        "properties": _properties({"report-code": run.environment.get("report code", "unknown")}),
    }
    for name, version in sorted(run.environment.items()):
        if name in _NO_LIBRARY or not (_PACKAGE.fullmatch(name) and _VERSION.fullmatch(version)):
            continue
        normal = re.sub(r"[-_.]+", "-", name).lower()
        yield {
            "type": "library",
            "bom-ref": stable_uuid("library", normal, version),
            "name": normal,
            "version": version,
            "purl": f"pkg:pypi/{normal}@{quote(version, safe='')}",
        }


def _model(source: ExportSource, asked: Sequence[Answer]) -> Json:
    model = source.findings.model
    datasets: list[Json] = [
        {"ref": _suite_ref(suite)} for suite in sorted(source.findings.suites, key=lambda suite: suite.id)
    ]
    component: dict[str, Json] = {
        "type": "machine-learning-model",
        "bom-ref": _model_ref(source),
        "name": line(model.name),
        "description": "The audited language model.",
        "modelCard": {
            "modelParameters": {
                "task": "text generation",
                "architectureFamily": "decoder-only transformer",
                "modelArchitecture": line(model.architecture),
                # The suites of the audit. What the model was trained on is not known to it.
                "datasets": datasets,
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(source, asked))},
            "considerations": {"technicalLimitations": list(_limitations(source, asked))},
            "properties": _properties({"policy": source.policy}),
        },
        "properties": _properties(
            {
                "digest": model.digest,
                "digest-of": _TREE,
                "source": model.source,
                "parameters": str(model.parameters),
                "layers": str(model.layers),
                "dtype": model.dtype,
            }
        ),
    }
    return component | _hashes(model.digest)


def _metrics(source: ExportSource, asked: Sequence[Answer]) -> Iterator[Json]:
    """Yield what was measured of questions that have an answer; of the others no number stands for the model."""
    for answer in asked:
        if answer.standing is Standing.ANSWERED:
            slices = f"{answer.id}, n = {answer.n_scenarios} confirmation scenarios"
            for name, estimate in answer.estimates.items():
                yield _metric(name, estimate, slices)
    for concept in sorted(source.findings.concepts, key=lambda concept: concept.id):
        if concept.outcome is not None:
            yield _answered(line(concept.id), concept.outcome)


def _answered(concept: str, outcome: OutcomeResult) -> Json:
    slices = f"{concept}, n = {outcome.n_scenarios} scenarios, p Holm {outcome.p_holm!r}"
    return _metric(
        "logit of the target minus that of the foil, in nats, sensitive case minus twin", outcome.difference, slices
    )


def _metric(kind: str, estimate: Estimate, slices: str) -> Json:
    metric: dict[str, Json] = {"type": kind, "value": repr(estimate.value), "slice": slices}
    if estimate.low is None or estimate.high is None:
        return metric
    bounds: dict[str, Json] = {"lowerBound": repr(estimate.low), "upperBound": repr(estimate.high)}
    return metric | {"confidenceInterval": bounds}


def _limitations(source: ExportSource, asked: Sequence[Answer]) -> Iterator[str]:
    yield source.policy
    for title, text in LIMITATIONS:
        yield f"{title} {text}"
    for text in sorted(source.findings.not_tested):
        yield f"Not tested: {line(text)}"
    for answer in asked:
        if answer.standing is not Standing.ANSWERED:
            yield f"{answer.standing.value.capitalize()}: {answer.id}. {answer.short}. {answer.said}"


def _sae(sae: InstrumentResult) -> Json:
    record, fidelity = sae.record, sae.fidelity
    slices = f"the audited prompts, {fidelity.tokens} tokens"
    metrics: list[Json] = [{"type": "fraction of variance unexplained", "value": repr(fidelity.fvu), "slice": slices}]
    if fidelity.delta_ce is not None:
        spliced = f"the audited prompts, {fidelity.spliced_tokens} tokens"
        metrics.append(_metric("rise of cross-entropy when spliced in, nats per token", fidelity.delta_ce, spliced))
    component: dict[str, Json] = {
        "type": "machine-learning-model",
        "bom-ref": _sae_ref(sae),
        "name": line(record.name),
        "description": "A sparse autoencoder, the instrument through which the model was read.",
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "unsupervised"},
                "architectureFamily": "sparse autoencoder",
                "modelArchitecture": line(record.architecture),
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
            "considerations": {
                "technicalLimitations": [f"Rated {fidelity.colour.value}: {line(fidelity.reason)}."],
            },
        },
        "properties": _properties(
            {
                "digest": record.digest,
                "digest-of": _TREE,
                "site": record.site,
                "latents": str(record.latents),
                "source": record.source,
                "format": record.format,
                "colour": fidelity.colour.value,
                "training-data-digest": record.training_data_digest or "unknown",
            }
        ),
    }
    if record.licence:
        component["licenses"] = [{"license": {"name": line(record.licence)}}]
    return component | _hashes(record.digest)


def _suite(suite: SuiteRecord) -> Json:
    component: dict[str, Json] = {
        "type": "data",
        "bom-ref": _suite_ref(suite),
        "name": line(suite.id),
        "version": line(suite.version),
        "description": f"Probe suite: {line(suite.title)}.",
        "data": [
            {
                "type": "dataset",
                "name": line(suite.id),
                "description": f"{suite.scenarios} scenarios, {suite.prompts} prompts; used to test, not to train.",
            }
        ],
        "properties": _properties(
            {
                "digest": suite.digest,
                "digest-of": _TREE,
                "part": suite.subset or "the whole suite",
                "texts-withheld": "yes" if suite.withheld else "no",
            }
        ),
    }
    return component | _hashes(suite.digest)


def _hashes(digest: str) -> dict[str, Json]:
    value = hex_of(digest)
    return {} if value is None else {"hashes": [{"alg": "SHA-256", "content": value}]}


def _model_ref(source: ExportSource) -> str:
    return stable_uuid("model", source.findings.model.digest)


def _sae_ref(sae: InstrumentResult) -> str:
    return stable_uuid("sae", sae.record.digest, sae.record.name)


def _suite_ref(suite: SuiteRecord) -> str:
    return stable_uuid("suite", suite.digest, suite.id)


def _properties(values: Mapping[str, str]) -> list[Json]:
    return [{"name": f"affidavit:{name}", "value": line(value)} for name, value in values.items()]
