"""What was audited: model, SAEs, suites."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The audited model."""

    name: str
    source: str
    architecture: str
    digest: str
    parameters: int
    layers: int
    width: int
    dtype: str
    chat_template: bool


@dataclass(frozen=True, slots=True)
class SaeRecord:
    """The instrument, with what its training card or its publisher's configuration says.

    `site` is where it reads. `target` is the site that its output stands for: the same, but for transcoders, which read
    at the input of a part of the model and answer for its output. `k` is None where no fixed number of latents fires;
    what was trained on is None where the source does not say. `source` says where it came from, in the user's words,
    `format` whose layout it had, and `notes` what was done to bring it into the canonical form.
    """

    name: str
    site: str
    target: str
    architecture: str
    format: str
    source: str
    latents: int
    k: int | None
    width: int
    target_width: int
    digest: str
    training_tokens: int | None
    training_updates: int | None
    training_data_digest: str | None
    licence: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SuiteRecord:
    """A probe suite as it was read.

    Args:
        digest: over all files of the suite, whichever part ran.
        concepts, mixes: those that ran.
        subset: the named part that ran; None is the whole.
        withheld: whether the texts are kept out of the bundle.
    """

    id: str
    title: str
    version: str
    digest: str
    concepts: tuple[str, ...]
    mixes: tuple[str, ...]
    scenarios: int
    prompts: int
    subset: str | None
    withheld: bool


def untrained_name(sae: str) -> str:
    """Return the name of the untrained control that is captured beside an SAE: random directions of its shape."""
    return f"{sae}.random-directions"
