"""JUnit XML, as Jenkins, GitLab and other CI servers read it (the schema of Jenkins' xunit plugin).

A suite is an SAE, a case is one contrast of one concept. Without a policy no case can fail, and a case that is not
skipped says that the question has an answer, never that the model is right: everything else is skipped, with its
reason. One case of its own is an error when the audit itself cannot be relied on.

Own writer: the format needs five elements. junitparser (maintained, Apache-2.0) writes the same, but leaves characters
that XML forbids to the caller.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from audit.exports.answers import Answer, Kind, Standing
from audit.exports.questions import answers, control_holds, control_words
from audit.exports.source import ExportSource, line
from audit.records import InstrumentResult

MEANING = (
    "A case that is not skipped says that the question was put and has an answer, not that the model passed anything."
    " A skipped case has no answer."
)
_CASES = frozenset({Kind.TOPIC, Kind.DISTINCTION})


def junit(source: ExportSource) -> bytes:
    """Return junit.xml; equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    findings = source.findings
    asked = [answer for answer in answers(findings) if answer.kind in _CASES]
    root = Element("testsuites", {"name": f"affidavit: {line(findings.model.name)}"})
    for sae in sorted(findings.saes, key=lambda sae: sae.record.name):
        own = [answer for answer in asked if answer.sae == sae.record.name]
        _suite(root, source, sae, own)
    broken = 0 if control_holds(findings.permutation_control) else 1
    if broken:
        _control(root, source)
    root.set("tests", str(len(asked) + broken))
    root.set("failures", "0")
    root.set("errors", str(broken))
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _suite(root: Element, source: ExportSource, sae: InstrumentResult, own: list[Answer]) -> None:
    skipped = sum(answer.standing is not Standing.ANSWERED for answer in own)
    suite = _opened(root, source, name=line(sae.record.name), tests=len(own), errors=0, skipped=skipped)
    _properties(
        suite,
        source,
        {
            "affidavit.sae.digest": line(sae.record.digest),
            "affidavit.sae.site": line(sae.record.site),
            "affidavit.sae.colour": sae.fidelity.colour.value,
        },
    )
    for answer in own:
        name = f"{answer.kind.value}: {answer.title}"
        case = SubElement(suite, "testcase", {"classname": _class_name(answer), "name": name})
        if answer.standing is not Standing.ANSWERED:
            skip = SubElement(case, "skipped", {"type": answer.standing.value, "message": answer.short})
            skip.text = answer.said
        else:
            SubElement(case, "system-out").text = f"{answer.short}. {answer.said}"


def _control(root: Element, source: ExportSource) -> None:
    """Add the case that fails the audit, not the model: what was found where there was nothing to find."""
    suite = _opened(root, source, name="the audit itself", tests=1, errors=1, skipped=0)
    _properties(suite, source, {})
    case = SubElement(suite, "testcase", {"classname": "affidavit", "name": "check with shuffled labels"})
    words = control_words(source.findings.permutation_control)
    SubElement(case, "error", {"type": "permutation control", "message": "no finding can be relied on"}).text = words


def _opened(root: Element, source: ExportSource, *, name: str, tests: int, errors: int, skipped: int) -> Element:
    return SubElement(
        root,
        "testsuite",
        {
            "name": name,
            "tests": str(tests),
            "failures": "0",
            "errors": str(errors),
            "skipped": str(skipped),
            "timestamp": source.created_at.strftime("%Y-%m-%dT%H:%M:%S"),
        },
    )


def _properties(suite: Element, source: ExportSource, own: dict[str, str]) -> None:
    findings = source.findings
    said = {
        "affidavit.policy": source.policy,
        "affidavit.meaning": MEANING,
        "affidavit.version": line(source.run.tool_version),
        "affidavit.model": line(findings.model.name),
        "affidavit.model.digest": line(findings.model.digest),
        "affidavit.findings.digest": line(source.run.findings_digest),
        "affidavit.permutation.control": control_words(findings.permutation_control),
        **own,
    }
    if source.withheld is not None:
        said["affidavit.redacted.copy.of"] = line(source.withheld.statement)
    properties = SubElement(suite, "properties")
    for name, value in said.items():
        SubElement(properties, "property", {"name": name, "value": value})


def _class_name(answer: Answer) -> str:
    """Return domain and concept; a dot inside either would open a package of its own."""
    return ".".join(line(part).replace(".", "_") for part in (answer.domain, answer.part))
