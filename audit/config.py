"""The audit's configuration: TOML to frozen records. An unknown key is an error, never ignored."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from audit.budget import parse_limit
from audit.errors import ConfigError

DEFAULT_SOURCE = "default"
TITLE_MOST = 120


class PromptFormat(StrEnum):
    """How a prompt reaches the model."""

    CHAT = "chat"
    PLAIN = "plain"


class ExecutorKind(StrEnum):
    """Who runs the batches of a capture."""

    LOCAL = "local"
    RAY = "ray"


class Dtype(StrEnum):
    """The arithmetic of the model's forward pass."""

    FP32 = "fp32"
    BF16 = "bf16"


class PageSize(StrEnum):
    """The paper of the PDF report."""

    A4 = "A4"
    LETTER = "Letter"


class SealLevel(StrEnum):
    """The PAdES baseline levels (ETSI EN 319 142-1) of the PDF's seal."""

    B_B = "B-B"
    B_T = "B-T"
    B_LT = "B-LT"


class WithoutTimestamp(StrEnum):
    """What happens where a timestamp is asked for and its authority does not answer."""

    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model is audited: `default`, a folder, a GGUF file or a Hugging Face id."""

    source: str = DEFAULT_SOURCE
    dtype: Dtype = Dtype.FP32


@dataclass(frozen=True, slots=True)
class SaeConfig:
    """Which SAEs read it: `default` for the shipped set, or whatever `docs/sae-formats.md` lists.

    The first is the one that the report's summary speaks of. `controls`: SAEs with a frozen random decoder that are
    captured beside those of their site, target and width; `default` for the shipped one, where it fits; may be empty.
    `labels`: files that `affidavit labels import` wrote, each for one of the SAEs.
    """

    sources: tuple[str, ...] = (DEFAULT_SOURCE,)
    controls: tuple[str, ...] = (DEFAULT_SOURCE,)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Which suites run, and in which format. No format means: chat if the model has a chat template.

    `subset`: the part of each suite that runs, by the name that the suite files give it; unset: the whole.
    """

    suites: tuple[str, ...] = ("healthcare", "finance", "defense", "cross_domain")
    subset: str | None = None
    format: PromptFormat | None = None


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """How activations are captured.

    `outlier_norm_factor`: positions whose residual norm exceeds this multiple of the median are excluded and counted.
    `batch_tokens`: tokens that run together, padding included; 0 lets the device decide.
    `executor`, `workers`: who runs the batches; 0 workers stand for as many as the Ray cluster has room for.
    """

    batch_tokens: int = 0
    outlier_norm_factor: float = 10.0
    executor: ExecutorKind = ExecutorKind.LOCAL
    workers: int = 0


@dataclass(frozen=True, slots=True)
class AnalysisConfig:
    """The thresholds of the association tests; method.md gives the reasons."""

    seed: int = 20260101
    flips: int = 20_000
    permutations: int = 200
    bootstrap: int = 2000
    fdr_q: float = 0.05
    alpha: float = 0.05
    min_firing_scenarios: int = 8
    min_confirmation_scenarios: int = 20
    separation_auroc: float = 0.7


@dataclass(frozen=True, slots=True)
class FidelityConfig:
    """When an instrument is green or amber; beyond amber it is red and no feature-level claim is made."""

    green_fvu: float = 0.2
    green_delta_ce: float = 0.1
    amber_fvu: float = 0.4
    amber_delta_ce: float = 0.4
    concept_fvu_ratio: float = 1.5
    spliced_scenarios: int = 8


@dataclass(frozen=True, slots=True)
class InteractionConfig:
    """The thresholds of co-firing and of the factorial over mixes.

    `cofiring_permutations`: how often scenarios are permuted within strata for the false discovery rate.
    `min_expected`: a pair whose expected count of joint firings is lower is not tested.
    `listed_pairs`: how many flagged pairs of an SAE the findings list, the strongest first.
    `emergent_single_firing`: a feature that fires on one concept alone in a larger share of scenarios is not emergent.
    """

    cofiring_permutations: int = 5
    min_expected: float = 5.0
    listed_pairs: int = 200
    emergent_single_firing: float = 0.05


@dataclass(frozen=True, slots=True)
class CausalConfig:
    """What is intervened on, and how much work it may take.

    `budget`: "unlimited", "none", a number of forward-equivalents such as "40000 forwards", or "10 minutes"; the last
    makes the result depend on the machine. `shams`: meaningless interventions that an effect must exceed,
    `sham_scenarios`: on how many scenarios they run. `pairs_per_mix`: how many pairs are measured exactly, chosen by
    the screen. `screen_spearman`, `screen_agreement`: a first-order screen that agrees less with exact values on a
    random set is refused. `doses`: of the control test, in units of the largest activation seen. `new_tokens`: how
    many the control test lets the model write.
    """

    budget: str = "unlimited"
    shams: int = 199
    sham_scenarios: int = 8
    pairs_per_mix: int = 20
    screen_sample: int = 60
    screen_spearman: float = 0.8
    screen_agreement: float = 0.9
    doses: tuple[float, ...] = (0.5, 1.0, 2.0)
    new_tokens: int = 24


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """How the report prints the evidence, and how much; findings.json always holds everything.

    `language`: the code of a language that `docs/translation.md` lists.
    """

    title: str = "Model audit report"
    language: str = "en"
    page_size: PageSize = PageSize.A4
    cards_per_concept: int = 4
    contexts_per_card: int = 3


@dataclass(frozen=True, slots=True)
class SealConfig:
    """What the PDF's seal carries besides the signature.

    `level`: B-B the signature, B-T a timestamp, B-LT also what the authorities say about its certificates. `tsa`: the
    RFC 3161 timestamp authority that B-T and B-LT ask. `without_timestamp`: whether to seal at B-B, which the report
    then says, when it does not answer.
    """

    level: SealLevel = SealLevel.B_B
    tsa: str = ""
    without_timestamp: WithoutTimestamp = WithoutTimestamp.REFUSE


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Everything that decides the result of an audit, and how it is sealed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    sae: SaeConfig = field(default_factory=SaeConfig)
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    seal: SealConfig = field(default_factory=SealConfig)


_MAY_BE_EMPTY = frozenset({"sae.controls", "sae.labels"})
_LIMITS: dict[str, tuple[float, float]] = {
    "capture.batch_tokens": (0, 1 << 24),
    "capture.outlier_norm_factor": (1.0, 1e6),
    "capture.workers": (0, 4096),
    "analysis.seed": (0, 2**63 - 1),
    "analysis.flips": (1000, 1e8),
    "analysis.permutations": (20, 1e6),
    "analysis.bootstrap": (200, 1e6),
    "analysis.fdr_q": (1e-9, 0.1),
    "analysis.alpha": (1e-9, 0.5),
    "analysis.min_firing_scenarios": (1, 1e6),
    "analysis.min_confirmation_scenarios": (2, 1e6),
    "analysis.separation_auroc": (0.5, 1.0),
    "fidelity.green_fvu": (0.0, 1.0),
    "fidelity.amber_fvu": (0.0, 1.0),
    "fidelity.green_delta_ce": (0.0, 100.0),
    "fidelity.amber_delta_ce": (0.0, 100.0),
    "fidelity.concept_fvu_ratio": (1.0, 1e6),
    "fidelity.spliced_scenarios": (1, 1e6),
    "interaction.cofiring_permutations": (1, 1e4),
    "interaction.min_expected": (1.0, 1e6),
    "interaction.listed_pairs": (0, 1e5),
    "interaction.emergent_single_firing": (0.0, 1.0),
    "causal.shams": (19, 1e5),
    "causal.sham_scenarios": (2, 1e4),
    "causal.pairs_per_mix": (0, 1e4),
    "causal.screen_sample": (20, 1e5),
    "causal.screen_spearman": (0.0, 1.0),
    "causal.screen_agreement": (0.0, 1.0),
    "causal.new_tokens": (1, 4096),
    "report.cards_per_concept": (0, 1000),
    "report.contexts_per_card": (0, 100),
}


def load_config(path: Path) -> AuditConfig:
    """Read an `audit.toml`.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, of the wrong type or out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            item=str(path), expected="a readable config file", found=str(error.strerror), hint="Check the path."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(item=str(path), expected="valid TOML", found=str(error), hint="Mend the file.") from error
    return parse_config(data, origin=str(path))


def parse_config(data: Mapping[str, object], *, origin: str) -> AuditConfig:
    """Build the configuration from a parsed TOML document.

    Raises:
        ConfigError: a key is unknown, of the wrong type or out of range.
    """
    config: AuditConfig = _build(AuditConfig, data, path="", origin=origin)
    _check_ranges(config, origin=origin)
    return config


def _build(kind: Any, data: Mapping[str, object], *, path: str, origin: str) -> Any:  # noqa: ANN401 - reflection
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(
            item=f"{origin}: {', '.join(path + key for key in unknown)}",
            expected=f"only the keys {', '.join(path + key for key in sorted(known))}",
            found="unknown",
            hint="Correct or remove the key; unknown keys are never ignored.",
        )
    values = {key: _convert(hints[key], value, path=path + key, origin=origin) for key, value in data.items()}
    return kind(**values)


def _convert(hint: Any, value: object, *, path: str, origin: str) -> object:  # noqa: ANN401 - reflection
    if is_dataclass(hint):
        if isinstance(value, Mapping):
            return _build(hint, value, path=f"{path}.", origin=origin)
        raise _wrong_type(path, f"a table [{path}]", value, origin=origin)
    if get_origin(hint) is tuple:
        if float in get_args(hint):
            return _numbers(value, path=path, origin=origin)
        least = 0 if path in _MAY_BE_EMPTY else 1
        if isinstance(value, list) and len(value) >= least and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise _wrong_type(path, "a list of at least one text" if least else "a list of texts", value, origin=origin)
    options = [option for option in get_args(hint) if isinstance(option, type)] or [hint]
    for option in options:
        # A list or a table is unhashable: only a text can be looked up in a set.
        words = {member.value for member in option} if issubclass(option, StrEnum) else set()
        if isinstance(value, str) and value in words:
            return option(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option in (int, str) and type(value) is option:
            return value
    raise _wrong_type(path, " or ".join(_describe(o) for o in options if o is not type(None)), value, origin=origin)


def _numbers(value: object, *, path: str, origin: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) or not 0 < n < inf for n in numbers):
        raise _wrong_type(path, "a list of at least one positive number", value, origin=origin)
    return tuple(float(n) for n in numbers)


def _wrong_type(path: str, expected: str, value: object, *, origin: str) -> ConfigError:
    return ConfigError(
        item=f"{origin}: {path}", expected=expected, found=repr(value), hint="See docs/config.md for the key's meaning."
    )


def _describe(option: object) -> str:
    if isinstance(option, type) and issubclass(option, StrEnum):
        return " or ".join(repr(member.value) for member in option)
    return getattr(option, "__name__", str(option))


def _check_ranges(config: AuditConfig, *, origin: str) -> None:
    for path, (low, high) in _LIMITS.items():
        section, key = path.split(".")
        value = getattr(getattr(config, section), key)
        if not low <= value <= high:
            raise ConfigError(
                item=f"{origin}: {path}",
                expected=f"between {low:g} and {high:g}",
                found=str(value),
                hint="See docs/config.md for the key's meaning.",
            )
    for measure in ("fvu", "delta_ce"):
        green, amber = (getattr(config.fidelity, f"{colour}_{measure}") for colour in ("green", "amber"))
        if green > amber:
            raise ConfigError(
                item=f"{origin}: fidelity.green_{measure}",
                expected=f"at most fidelity.amber_{measure}",
                found=f"{green} > {amber}",
                hint="Green is the stricter limit.",
            )
    parse_limit(config.causal.budget, item=f"{origin}: causal.budget")
    check_seal(config.seal, origin=origin)
    title = config.report.title
    if not title.strip() or len(title) > TITLE_MOST or not title.isprintable():
        raise ConfigError(
            item=f"{origin}: report.title",
            expected=f"1 to {TITLE_MOST} printable characters on one line",
            found=f"{len(title)} characters: {title[:TITLE_MOST]!a}",
            hint="Shorten the title, or take out its control characters.",
        )


def check_seal(seal: SealConfig, *, origin: str) -> None:
    """Pass if the level and the timestamp authority fit each other.

    Raises:
        ConfigError: a timestamp without an authority or the other way round, or an address that is none or carries a
            password: the address stands in the manifest.
    """
    wanted = seal.level is not SealLevel.B_B
    try:
        address = urlsplit(seal.tsa)
    except ValueError:
        address = urlsplit("")
    usable = address.scheme in {"http", "https"} and bool(address.netloc) and "@" not in address.netloc
    if usable if wanted else not seal.tsa:
        return
    raise ConfigError(
        item=f"{origin}: seal.tsa",
        expected=(
            f"for level {seal.level.value} the http or https address of a timestamp authority, without a password"
            if wanted
            else "no timestamp authority, as level B-B has no timestamp"
        ),
        found=repr(seal.tsa) if "@" not in seal.tsa else "an address with a user name",
        hint='Set seal.level to "B-T" or "B-LT" together with seal.tsa, or neither.',
    )
