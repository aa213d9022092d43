"""Load again what a bundle was made from, and refuse anything else: the model, one of its SAEs, its suites.

A bundle names what it audited by digest. Whatever is measured afterwards with another model, other weights or other
texts would say nothing about that audit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.arrays import Densities
from audit.capture.fitting import Fitted, fit_sae
from audit.capture.model import LoadedModel, load_model
from audit.capture.sae_sources import SHIPPED, expand_sources, load_sae
from audit.config import DEFAULT_SOURCE, Dtype, ModelConfig, PromptFormat
from audit.digests import digest_file
from audit.errors import DigestMismatch, EvidenceError, UsageError
from audit.evidence import scores
from audit.evidence.store import DATABASE, Store
from audit.progress import Progress
from audit.recorded_suites import recorded_suites
from audit.records import ModelRecord, SaeRecord, SuiteRecord, parse_record
from audit.signing.bundle_files import MANIFEST, read_content
from audit.signing.strict_json import expect_object, parse_json
from probes.schema import Suite

_SCHEMA = "affidavit/manifest/1"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the user says that the parts lie; None and empty: where the bundle says."""

    model: str | None = None
    sae: str | None = None
    suites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditedBundle:
    """What a bundle's manifest says was audited, and what its evidence says of the features.

    Args:
        folder: the bundle.
        saes: in the order of `sae_sources`.
        sae_sources: the recorded source of each.
        outlier_limits: SAE name -> the residual norm above which a position was excluded.
    """

    folder: Path
    model: ModelRecord
    model_source: str
    saes: tuple[SaeRecord, ...]
    sae_sources: tuple[str, ...]
    suites: tuple[SuiteRecord, ...]
    suite_sources: tuple[str, ...]
    prompt_format: PromptFormat
    outlier_limits: Mapping[str, float]

    def live(self, sae: str) -> Densities:
        """Return the features of an SAE that fired in the audit, with their largest activations."""
        with Store(self.folder) as store:
            return scores.read_densities(store, sae=sae)

    def owners(self, sae: str) -> tuple[tuple[str, int], ...]:
        """Return (concept, latent) of the SAE's confirmed and causal features, the strongest first."""
        with Store(self.folder) as store:
            return scores.read_owners(store, sae=sae)


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """Some features of one SAE of a bundle."""

    sae: SaeRecord
    latents: tuple[int, ...]


def read_bundle(folder: Path) -> AuditedBundle:
    """Read a bundle's manifest and check that the evidence beside it is the one that it lists.

    The seal is not checked: `affidavit verify` does that.

    Raises:
        EvidenceError: there is no manifest, it is of another version, or the evidence is not the one that it lists.
    """
    manifest = expect_object(parse_json(read_content(folder, MANIFEST), item=MANIFEST), item=MANIFEST)
    if manifest.get("schema") != _SCHEMA:
        raise _unreadable(f"schema {manifest.get('schema')!r}", _SCHEMA)
    try:
        value: Any = manifest
        config = value["run"]["config"]
        listed = value["files"][DATABASE]
        bundle = AuditedBundle(
            folder=folder,
            model=parse_record(ModelRecord, value["model"]),
            model_source=str(config["model"]["source"]),
            saes=tuple(parse_record(SaeRecord, sae) for sae in value["saes"]),
            sae_sources=expand_sources(map(str, config["sae"]["sources"])),
            suites=tuple(parse_record(SuiteRecord, suite) for suite in value["suites"]),
            suite_sources=tuple(map(str, config["probes"]["suites"])),
            prompt_format=PromptFormat(value["format"]),
            outlier_limits={str(name): float(own["outlier_limit"]) for name, own in value["exclusions"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(f"{type(error).__name__}: {error}", "the fields that an audit writes") from error
    if len(bundle.saes) != len(bundle.sae_sources):
        raise _unreadable(f"{len(bundle.saes)} SAEs from {len(bundle.sae_sources)} sources", "a source for each SAE")
    database = folder / DATABASE
    if not database.is_file() or database.is_symlink():
        raise EvidenceError(
            item=str(database), expected="an evidence database", found="no file", hint="Give the folder of a bundle."
        )
    _require(DATABASE, str(listed), digest_file(database), hint="Run `affidavit verify` on the bundle.")
    return bundle


def choose_features(bundle: AuditedBundle, text: str, *, sae: str | None) -> FeatureChoice:
    """Return the features that a text names, all of one SAE.

    Args:
        bundle: which SAEs there are.
        text: latents with a comma between, such as `77,1234`, or with the layer of their SAE, such as `15:77,15:1234`.
        sae: name of the SAE; None where the layer, or the bundle's only SAE, says which.

    Raises:
        UsageError: not a number, out of range, named twice, of several SAEs, or no one SAE is meant.
    """
    parts = [part.strip() for part in text.split(",")]
    layers, numbers = [], []
    for part in parts:
        layer, _, number = part.rpartition(":")
        if not number.isdecimal() or (layer and not layer.isdecimal()) or len(part) > 20:
            raise _misnamed(text, f"{part!r}")
        layers.append(int(layer) if layer else None)
        numbers.append(int(number))
    if len(set(layers)) > 1:
        raise _misnamed(text, "several SAEs; a push acts at one site")
    record = choose_sae(bundle, sae, layer=layers[0])
    if len(set(numbers)) < len(numbers):
        raise _misnamed(text, "a feature named twice")
    if outside := [number for number in numbers if number >= record.latents]:
        raise UsageError(
            item=f"feature {outside[0]}",
            expected=f"0 to {record.latents - 1}",
            found=str(outside[0]),
            hint=f"{record.name} has {record.latents:,} latents.",
        )
    return FeatureChoice(record, tuple(numbers))


def choose_sae(bundle: AuditedBundle, name: str | None, *, layer: int | None = None) -> SaeRecord:
    """Return the one SAE of a bundle that a name, or a layer, means.

    Raises:
        UsageError: none is meant, or several.
    """
    found = [
        sae
        for sae in bundle.saes
        if (name is None or sae.name == name) and (layer is None or sae.target.rpartition(".")[2] == str(layer))
    ]
    if len(found) != 1:
        meant = " and ".join(
            said for said in (name and f"--sae {name}", layer is not None and f"layer {layer}") if said
        )
        raise UsageError(
            item=meant or "the SAE",
            expected="one SAE of the bundle: " + ", ".join(sae.name for sae in bundle.saes),
            found=f"{len(found)} that it may mean",
            hint="Name it with --sae.",
        )
    return found[0]


def reload_suites(bundle: AuditedBundle, sources: Sources, *, whole: bool = False) -> tuple[Suite, ...]:
    """Load the suites that ran, the same part of them.

    Args:
        bundle: which.
        sources: `suites` names every one that is needed; empty: the shipped ones that the bundle names.
        whole: all of each suite instead of the part that ran.

    Raises:
        UsageError: a suite is not shipped with the tool and was not named; a bundle alone does not hold its frames, and
            of a withheld suite not even its texts.
        DigestMismatch: a suite has changed since the audit.
    """
    return recorded_suites(bundle.suites, bundle.suite_sources, given=sources.suites, whole=whole)


def reload_model(bundle: AuditedBundle, sources: Sources, progress: Progress) -> LoadedModel:
    """Load the audited model in the arithmetic of the audit.

    Raises:
        UsageError: it is not the default model and its source was not named.
        ModelUnavailable: it cannot be loaded.
        DigestMismatch: it is another one.
    """
    source = sources.model or bundle.model_source
    if sources.model is None and source != DEFAULT_SOURCE:
        raise _unnamed(f"model {bundle.model.name}", "--model")
    progress.say("loading the model")
    model = load_model(ModelConfig(source, Dtype(bundle.model.dtype)), say=progress.say)
    hint = "This is not the model that was audited: name it with --model, or audit this one."
    _require(f"model {model.record.name}", bundle.model.digest, model.record.digest, hint=hint)
    return model


def reload_sae(bundle: AuditedBundle, sources: Sources, record: SaeRecord, model: LoadedModel) -> Fitted:
    """Load one of the bundle's SAEs and put it at its place in the model.

    Raises:
        UsageError: it is not a shipped one and its source was not named.
        SaeInvalid: it cannot be loaded.
        DigestMismatch: its weights are others.
    """
    recorded = bundle.sae_sources[bundle.saes.index(record)]
    if sources.sae is None and recorded not in SHIPPED:
        raise _unnamed(f"SAE {record.name}", "--sae-source")
    sae = load_sae(sources.sae or recorded)
    hint = "These are not the weights that were audited: name them with --sae-source, or audit again."
    _require(f"SAE {record.name}", record.digest, sae.record.digest, hint=hint)
    return fit_sae(sae, model)


def concept_of(bundle: AuditedBundle, choice: FeatureChoice, wanted: str | None, concepts: Sequence[str]) -> str:
    """Return the concept whose question is asked: the wanted one, or the only one that the features are confirmed for.

    Args:
        bundle: whose findings say what the features are confirmed for.
        choice: the features.
        wanted: an id, or None.
        concepts: those that ask a question.

    Raises:
        UsageError: the concept is unknown or asks no question, or none is named and the findings do not say one.
    """
    if wanted is not None:
        if wanted in concepts:
            return wanted
        raise UsageError(
            item=f"concept {wanted!r}",
            expected=f"a concept of the audit that asks a question: {', '.join(concepts) or 'none does'}",
            found="no such concept",
            hint="Name one of them.",
        )
    owned = dict.fromkeys(
        c for c, latent in bundle.owners(choice.sae.name) if latent in choice.latents and c in concepts
    )
    if len(owned) != 1:
        raise UsageError(
            item="concept",
            expected="one concept that these features are confirmed for",
            found=", ".join(owned) or "none",
            hint=f"Name one with --concept: {', '.join(owned) or ', '.join(concepts)}.",
        )
    return next(iter(owned))


def _require(item: str, expected: str, found: str, *, hint: str) -> None:
    if expected != found:
        raise DigestMismatch(item=item, expected=expected, found=found, hint=hint)


def _unnamed(what: str, option: str) -> UsageError:
    return UsageError(
        item=what,
        expected=f"its source, by {option}: a bundle does not say where on a machine its parts lay",
        found="none given",
        hint=f"Give {option} with the folder or the name that the audit used; the digest is compared.",
    )


def _misnamed(text: str, found: str) -> UsageError:
    return UsageError(
        item=f"features {text[:80]!r}",
        expected="latents of one SAE, each once, such as 77,1234, or with its layer: 15:77,15:1234",
        found=found[:80],
        hint="`affidavit sql BUNDLE 'SELECT * FROM finding'` lists the features of a report.",
    )


def _unreadable(found: str, expected: str) -> EvidenceError:
    return EvidenceError(
        item=MANIFEST,
        expected=expected,
        found=found[:200],
        hint="The bundle was made by another version, or is damaged.",
    )
