"""Explanations of features from elsewhere: read an export, bind it to one SAE's weights, read it back.

An export is untrusted: its texts are limited in length, hold no character that could hide or reorder what a reader
sees, and are escaped wherever they are printed.

Neuronpedia's exports are the rows of its table `Explanation`: modelId, layer (a source such as
`20-gemmascope-res-16k`), index (a text), description, explanationModelName, typeName, scoreV1, scoreV2, and in answers
of its API a list `scores` with value, explanationScoreTypeName and explanationScoreModelName
(docs.neuronpedia.org/api-and-data/exports; github.com/hijohnnylin/neuronpedia, prisma/schema.prisma). They come as
batch-N.jsonl.gz, as one JSON array, or below a feature's `explanations`.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.capture.site_names import SiteKind, read_name
from audit.digests import Json, canonical_json, digest_bytes
from audit.errors import ConfigError, EvidenceError, LabelsInvalid, OutputError
from audit.records import (
    LABELS_SCHEMA,
    ImportedLabel,
    LabelFile,
    LabelSource,
    LeftOut,
    SaeRecord,
    as_json,
    parse_record,
)
from audit.signing.strict_json import parse_json

MAX_EXPORT_BYTES = 256 << 20
MAX_TEXT = 1000
MAX_NAME = 200
_GZIP = b"\x1f\x8b"
_EMPTY, _LONG, _HIDDEN = "empty", f"longer than {MAX_TEXT} characters", "control or invisible characters"
_WORSE = "another explanation of the same feature is kept"
# As in the report: characters that could hide or reorder what a reader sees.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_SOURCE = re.compile(r"(?P<layer>[0-9]{1,4})-(?P<rest>.+)")
_STREAM = frozenset({SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST})
_ATTENTION = frozenset({SiteKind.ATTN_Z, SiteKind.ATTN_OUT})
_MLP = frozenset({SiteKind.MLP_OUT})
# What a source's name says about the place that an SAE's output stands for; a name without such a word says nothing.
_PLACES: dict[str, frozenset[SiteKind]] = {
    "res": _STREAM, "resid": _STREAM, "tres": _STREAM, "att": _ATTENTION, "attn": _ATTENTION, "mlp": _MLP,
    "transcoder": _MLP, "tc": _MLP, "clt": _MLP,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Explanation:
    latent: int
    text: str
    explainer: str
    method: str
    scores: Mapping[str, float]


def import_labels(exports: Sequence[Path], sae: SaeRecord) -> LabelFile:
    """Return the explanations of one or more export files, bound to an SAE.

    One explanation a feature is kept: the best by the scorer that scored most of the export, so that only scores of one
    scorer are compared; among equal ones the first by text.

    Args:
        exports: files of one Neuronpedia source, JSON or JSON lines, plain or gzipped.
        sae: whose features they explain. That the export was made with these weights is the user's word: exports name
            no digest.

    Raises:
        LabelsInvalid: a file cannot be read, is too large, is no export, mixes sources, names another layer or kind of
            site than the SAE's, or a feature that the SAE has not; or nothing usable is left.
    """
    contents = {path: _content(path) for path in exports}
    rows: list[_Explanation] = []
    sources: dict[tuple[str, str], str] = {}
    for path, data in contents.items():
        for item, row in _rows(data, path.name):
            model, layer = (_text(row, key, item) for key in ("modelId", "layer"))
            sources.setdefault((model, layer), item)
            rows.append(_explanation(row, item, latents=sae.latents))
    (model, layer), *others = sources or [("", "")]
    if others:
        second = "/".join(others[0])
        raise _invalid(
            sources[others[0]],
            f"explanations of {model}/{layer}, as before",
            f"of {second}",
            "Import each source of an export by itself.",
        )
    usable, left_out = _usable(rows)
    if not usable:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "no explanation"
        names = ", ".join(path.name for path in exports)
        raise _invalid(names, "at least one explanation", found, "Give an export that holds explanations.")
    _require_place(layer, sae, sources[model, layer])
    scorer = _common_scorer(usable)
    best: dict[int, _Explanation] = {}
    for own in sorted(usable, key=lambda e: (-e.scores.get(scorer, float("-inf")), e.text, e.explainer, e.method)):
        best.setdefault(own.latent, own)
    left_out[_WORSE] += len(usable) - len(best)
    return LabelFile(
        schema=LABELS_SCHEMA,
        sae=sae.name,
        sae_digest=sae.digest,
        site=sae.site,
        source=LabelSource.NEURONPEDIA,
        model=model,
        layer=layer,
        scorer=scorer,
        exports=tuple(sorted(digest_bytes(data) for data in contents.values())),
        left_out=tuple(LeftOut(reason, count) for reason, count in sorted(left_out.items()) if count),
        labels=tuple(
            ImportedLabel(latent, e.text, e.explainer, e.method, e.scores.get(scorer))
            for latent, e in sorted(best.items())
        ),
    )


def write_labels(path: Path, labels: LabelFile) -> None:
    """Write labels as canonical JSON to a file that does not exist yet.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    try:
        with path.open("xb") as stream:
            stream.write(canonical_json(as_json(labels)))
    except OSError as error:
        raise OutputError(
            item=str(path), expected="a new file", found=str(error.strerror), hint="Choose another name or folder."
        ) from error


def read_labels(paths: Sequence[str], saes: Sequence[SaeRecord]) -> dict[str, tuple[LabelFile, ...]]:
    """Return the label files of each SAE, by its name; SAEs without one are left out.

    Args:
        paths: files that `write_labels` wrote, wherever they have been since.
        saes: the audited ones.

    Raises:
        LabelsInvalid: a file cannot be read or is not of the documented form.
        ConfigError: a file belongs to none of the SAEs.
    """
    by_digest = {sae.digest: sae for sae in saes}
    found: dict[str, list[LabelFile]] = {}
    for name in paths:
        path = Path(name).expanduser()
        labels = _parsed(path)
        sae = by_digest.get(labels.sae_digest)
        if sae is None:
            raise ConfigError(
                item=f"sae.labels: {path.name}",
                expected=f"labels of an audited SAE: {', '.join(f'{s.name} {s.digest}' for s in saes)}",
                found=f"labels of {labels.sae} {labels.sae_digest}",
                hint="Import the export again with --sae of this audit, or audit the SAE that it belongs to.",
            )
        if labels.labels[-1].latent >= sae.latents:
            raise _damaged(path.name, f"feature {labels.labels[-1].latent} of an SAE with {sae.latents}")
        found.setdefault(sae.name, []).append(labels)
    return {name: tuple(own) for name, own in found.items()}


def _parsed(path: Path) -> LabelFile:
    data = _bytes(path)
    try:
        labels: LabelFile = parse_record(LabelFile, parse_json(data, item=path.name), where=path.name)
    except EvidenceError as error:
        raise _damaged(path.name, f"{error.item}: {error.found}") from error
    latents = [label.latent for label in labels.labels]
    if labels.schema != LABELS_SCHEMA:
        raise _damaged(path.name, f"schema {labels.schema[:MAX_NAME]!a}")
    if not latents or latents != sorted(set(latents)) or latents[0] < 0:
        raise _damaged(path.name, "features that are not numbered upwards, each once")
    names = (labels.sae, labels.sae_digest, labels.site, labels.model, labels.layer, labels.scorer)
    texts = [(label.text, MAX_TEXT) for label in labels.labels] + [(name, MAX_NAME) for name in names if name]
    texts += [(name, MAX_NAME) for label in labels.labels for name in (label.explainer, label.method) if name]
    if wrong := next((why for text, most in texts if (why := _fault(text, most))), None):
        raise _damaged(path.name, f"a text that is {wrong}")
    return labels


def _usable(rows: Sequence[_Explanation]) -> tuple[list[_Explanation], Counter[str]]:
    """Return the explanations with a text that may be printed, and why the others are left out."""
    left_out = Counter(why for row in rows if (why := _fault(row.text, MAX_TEXT)))
    return [row for row in rows if not _fault(row.text, MAX_TEXT)], left_out


def _fault(text: str, most: int) -> str | None:
    if not text.strip():
        return _EMPTY
    if len(text) > most:
        return _LONG if most == MAX_TEXT else f"longer than {most} characters"
    return _HIDDEN if any(unicodedata.category(char) in _INVISIBLE for char in text) else None


def _common_scorer(rows: Sequence[_Explanation]) -> str:
    """Return the scorer that scored most explanations; the first by name of several."""
    counts = Counter(scorer for row in rows for scorer in row.scores)
    return min(counts, key=lambda scorer: (-counts[scorer], scorer)) if counts else ""


def _require_place(layer: str, sae: SaeRecord, item: str) -> None:
    """Refuse an export whose source is named after another layer or another kind of site than the SAE's."""
    site, target = read_name(sae.site), read_name(sae.target)
    source = _SOURCE.fullmatch(layer)
    hint = "Give the export of this SAE, or the SAE of this export."
    if source is None:
        raise _invalid(item, "a source such as 20-gemmascope-res-16k, layer first", repr(layer), hint)
    if site is None or target is None:
        raise _invalid(item, "an SAE whose site has a known name", f"{sae.site}, {sae.target}", hint)
    words = re.split(r"[-_]", source["rest"])
    kinds = next((_PLACES[word] for word in words if word in _PLACES), None)
    if int(source["layer"]) not in {site.layer, target.layer} or (kinds is not None and target.kind not in kinds):
        raise _invalid(item, f"the layer and kind of site of {sae.name}: {sae.target}", f"layer {layer!r}", hint)


def _explanation(row: Mapping[str, Json], item: str, *, latents: int) -> _Explanation:
    return _Explanation(
        latent=_index(row, item, latents=latents),
        # Line breaks and runs of blanks are typesetting.
        text=" ".join(_text(row, "description", item, most=None).split()),
        explainer=_name(row.get("explanationModelName")),
        method=_name(row.get("typeName")),
        scores=_scores(row, item),
    )


def _index(row: Mapping[str, Json], item: str, *, latents: int) -> int:
    value = row.get("index")
    number = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not re.fullmatch(r"[0-9]{1,12}", number, re.ASCII):
        raise _invalid(item, "index: the number of a feature", _shown(value), "Give a Neuronpedia export.")
    if int(number) >= latents:
        raise _invalid(
            item, f"an index from 0 to {latents - 1}", number, "The export belongs to a wider SAE than --sae names."
        )
    return int(number)


def _scores(row: Mapping[str, Json], item: str) -> dict[str, float]:
    """Return what each scorer said; 0 in the old column scoreV1 is its default and stands for no score."""
    found: dict[str, float] = {}
    listed = row.get("scores")
    if listed is not None and not isinstance(listed, list):
        raise _invalid(item, "scores: a list", _shown(listed), "Give a Neuronpedia export.")
    for score in listed or []:
        value = score.get("value") if isinstance(score, Mapping) else None
        if not isinstance(score, Mapping) or not _is_number(value):
            raise _invalid(item, "scores: each with a number as its value", _shown(score), "Give a Neuronpedia export.")
        scorer, judge = (_name(score.get(f"explanationScore{part}Name")) for part in ("Type", "Model"))
        name = f"{scorer or 'unnamed'} by {judge}" if judge else scorer or "unnamed"
        found[name] = max(float(value), found.get(name, float("-inf")))  # type: ignore[arg-type]
    for name in ("scoreV1", "scoreV2"):
        value = row.get(name)
        if _is_number(value) and (value or name == "scoreV2"):
            found[name] = float(value)  # type: ignore[arg-type]
    return found


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: Json) -> str:
    """Return a name of an export if it can be printed, else nothing: names explain, they decide nothing."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "" if _fault(text, MAX_NAME // 3) else text


def _text(row: Mapping[str, Json], key: str, item: str, *, most: int | None = MAX_NAME) -> str:
    value = row.get(key)
    if not isinstance(value, str) or (most is not None and _fault(value, most)):
        raise _invalid(item, f"{key}: a text", _shown(value), "Give a Neuronpedia export.")
    return value


def _rows(data: bytes, name: str) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yield every explanation of an export with the place where it stands."""
    for item, value in _documents(data, name):
        found = value if isinstance(value, list) else [value]
        for number, row in enumerate(found, start=1):
            place = f"{item}, entry {number}" if isinstance(value, list) else item
            if not isinstance(row, Mapping):
                raise _invalid(place, "an object", _shown(row), "Give a Neuronpedia export.")
            inner = row.get("explanations")
            if inner is None:
                yield place, row
                continue
            if not isinstance(inner, list) or not all(isinstance(child, Mapping) for child in inner):
                raise _invalid(place, "explanations: a list of objects", _shown(inner), "Give a Neuronpedia export.")
            feature = {key: row[key] for key in ("modelId", "layer", "index") if key in row}
            for child in inner:
                if isinstance(child, Mapping):
                    yield place, {**feature, **child}


def _documents(data: bytes, name: str) -> Iterator[tuple[str, Json]]:
    """Yield the JSON documents of a file: one, or one a line."""
    lines = data.splitlines()
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if len(filled) < 2 or not _is_whole(filled[0][1]):
        yield name, _json(data, name)
        return
    for number, line in filled:
        yield f"{name}, line {number}", _json(line, f"{name}, line {number}")


def _is_whole(line: bytes) -> bool:
    # A document of its own in the first line means JSON lines; a document over many lines does not end in the first.
    try:
        parse_json(line, item="line")
    except EvidenceError:
        return line.strip().startswith(b"{") and line.strip().endswith(b"}")
    return True


def _json(data: bytes, item: str) -> Json:
    try:
        return parse_json(data, item=item, max_size_bytes=MAX_EXPORT_BYTES)
    except EvidenceError as error:
        raise _invalid(item, "JSON", error.found, "Give an export as Neuronpedia offers it.") from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_EXPORT_BYTES + 1)
    except OSError as error:
        raise _invalid(str(path), "a readable file", str(error.strerror), "Check the path.") from error
    _require_size(data, path)
    return data


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked if gzip packed them; never more than the limit are unpacked."""
    data = _bytes(path)
    if not data.startswith(_GZIP):
        return data
    try:
        with gzip.open(path, "rb") as stream:
            data = stream.read(MAX_EXPORT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _invalid(path.name, "a whole gzip file", str(error), "Download it again.") from error
    _require_size(data, path)
    return data


def _require_size(data: bytes, path: Path) -> None:
    if len(data) > MAX_EXPORT_BYTES:
        raise _invalid(
            path.name,
            f"at most {MAX_EXPORT_BYTES >> 20} MiB, unpacked",
            "more",
            "Import the batches of an export as they are, several files in one command.",
        )


def _shown(value: Json) -> str:
    return "nothing" if value is None else ascii(value)[:80]


def _invalid(item: str, expected: str, found: str, hint: str) -> LabelsInvalid:
    return LabelsInvalid(item=item, expected=expected, found=found, hint=hint)


def _damaged(name: str, found: str) -> LabelsInvalid:
    return _invalid(
        name, f"labels as `affidavit labels import` writes them, {LABELS_SCHEMA}", found, "Import the export again."
    )
