"""One tree of errors. Each says what, what was expected, what was found and what to do."""

from __future__ import annotations

from enum import IntEnum
from functools import partial


class ExitCode(IntEnum):
    """The process exit codes that the documentation promises."""

    PASS = 0
    GATE_FAILED = 1
    USAGE = 2
    EVIDENCE_INVALID = 3
    ENVIRONMENT = 4


class AffidavitError(Exception):
    """Base of every error that a user may see.

    Args:
        item: what the error is about: a file, a key, a latent.
        expected: what should have been there.
        found: what was there instead.
        hint: what the user can do about it.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, *, item: str, expected: str, found: str, hint: str) -> None:
        super().__init__(item)
        self.item = item
        self.expected = expected
        self.found = found
        self.hint = hint

    def __reduce__(self) -> tuple[partial[AffidavitError], tuple[()]]:
        """Return how another process gets this error: its fields have names, those of an exception have none."""
        return partial(type(self), item=self.item, expected=self.expected, found=self.found, hint=self.hint), ()

    def __str__(self) -> str:
        """Return the four fields, one a line."""
        return f"{self.item}\n  expected: {self.expected}\n  found:    {self.found}\n  to do:    {self.hint}"


class ConfigError(AffidavitError):
    """The configuration has an unknown key, a wrong type or an impossible value."""


class SuiteError(AffidavitError):
    """A probe suite breaks its schema or its rules."""


class FrameworkError(AffidavitError):
    """A framework file cannot be read, or breaks its schema."""


class UsageError(AffidavitError):
    """A command was called in a way that cannot work."""


class OutputError(AffidavitError):
    """The output folder cannot be written, or holds a sealed bundle."""


class EvidenceError(AffidavitError):
    """Evidence is missing, malformed, or not what its digest says."""

    exit_code = ExitCode.EVIDENCE_INVALID


class DigestMismatch(EvidenceError):  # noqa: N818 - the name is the claim
    """Bytes do not have the digest that was promised for them."""


class SignatureInvalid(EvidenceError):  # noqa: N818 - the name is the claim
    """A signature does not verify, or does not cover what it must cover."""


class KeyProblem(AffidavitError):  # noqa: N818 - not a KeyError
    """A signing key or certificate cannot be read or used."""


class EnvironmentProblem(AffidavitError):  # noqa: N818 - not an EnvironmentError
    """Something outside this package is missing: a library, the network, disk space."""

    exit_code = ExitCode.ENVIRONMENT


class ModelUnavailable(EnvironmentProblem):
    """The model is neither in the cache nor can it be downloaded."""


class InstallationBroken(EnvironmentProblem):
    """The four packages do not come from one installation."""


class SiteNotFound(AffidavitError):  # noqa: N818 - the name is the claim
    """The model has no such hook site."""


class ShapeMismatch(AffidavitError):  # noqa: N818 - the name is the claim
    """Two arrays that must agree in width do not."""


class SaeInvalid(AffidavitError):  # noqa: N818 - the name is the claim
    """An SAE's weights or configuration cannot be used."""


class LabelsInvalid(AffidavitError):  # noqa: N818 - the name is the claim
    """A file of feature labels cannot be read, or belongs to another SAE."""


class CorpusError(AffidavitError):
    """A text file for training or checking cannot be read, or holds too little."""


class TooLarge(EnvironmentProblem):
    """A computation needs more memory or disk than there is; told before it starts."""


class TrainingDiverged(AffidavitError):  # noqa: N818 - the name is the claim
    """The loss became NaN or infinite."""


class PromptTooLong(AffidavitError):  # noqa: N818 - the name is the claim
    """A prompt does not fit the model's context. Nothing is ever cut silently."""
