"""How high features stand in the texts that a concept is compared with: the level that they are lowered to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from audit.capture.batches import make_batches, share_prefix
from audit.capture.fitting import stations
from audit.capture.jobs import run_halving
from audit.capture.prompts import Prompt, TokenisedPrompt, tokenise
from audit.gathering import Instrument, Subject
from audit.records import Contrast
from probes.schema import OUTCOME_FRAME, Arm, Concept, Split, Suite

REFERENCE = {Contrast.TOPIC: Arm.NEUTRAL, Contrast.DISTINCTION: Arm.CONTROL}

Levels = Mapping[tuple[str, int], Mapping[int, float]]


class LevelReader:
    """Reads the largest activation of every feature in prompts, for all instruments in one pass up to the last site."""

    def __init__(
        self, subject: Subject, instruments: Sequence[Instrument], *, batch_tokens: int, say: Callable[[str], None]
    ) -> None:
        self._subject = subject
        self._batch_tokens = batch_tokens
        self._stations = stations([one.fitted for one in instruments], subject.calibrations)
        self._say = say
        self._read = 0

    def spent(self) -> float:
        """Return the work so far in forward-equivalents: the share of layers that were run, over all prompts."""
        highest = max((site.layer for station in self._stations for site in station.sites), default=-1)
        return self._read * (highest + 1) / len(self._subject.model.layers)

    def read(self, prompts: Sequence[TokenisedPrompt]) -> Levels:
        """Return (SAE, id of the prompt) -> latent -> its largest activation in the scenario's own text.

        Silent ones are not there. The words of a question are left out: they name the concept in every arm.
        """
        levels: dict[tuple[str, int], dict[int, float]] = {
            (sae.record.name, prompt.id): {} for station in self._stations for sae in station.saes for prompt in prompts
        }
        if not levels:
            return levels
        model = self._subject.model
        highest = max((site for station in self._stations for site in station.sites), key=lambda site: site.depth)
        # Not packed: to try whether a model may be packed costs more than these few prompts have in common.
        prefix = share_prefix(model, prompts, upto=highest)
        for batch in make_batches(prompts, batch_tokens=self._batch_tokens, prefix=prefix):
            own = {(prompt.id, n) for prompt in batch.prompts for n, told in enumerate(prompt.scenario_text) if told}
            for block in run_halving(model, self._stations, batch, say=self._say).rows:
                places = zip(block.prompt.tolist(), block.position.tolist(), strict=True)
                told = np.fromiter((place in own for place in places), dtype=np.bool_, count=len(block.prompt))
                pairs, where = np.unique(
                    np.stack([block.prompt[told], block.latent[told]]), axis=1, return_inverse=True
                )
                largest = np.zeros(pairs.shape[1])
                np.maximum.at(largest, where.reshape(-1), block.activation[told])
                for (prompt, latent), value in zip(pairs.T.tolist(), largest.tolist(), strict=True):
                    levels[block.sae, prompt][latent] = value
        self._read += len(prompts)
        return levels


def reference_questions(
    subject: Subject, concept: Concept, arms: Iterable[Arm], *, first_id: int
) -> dict[tuple[str, Arm], TokenisedPrompt]:
    """Return (scenario, arm) -> the concept's question about that arm, on held-out scenarios; without the arm none."""
    suite = suite_of(subject.suites, concept)
    if concept.outcome is None:
        return {}
    rows = [
        (scenario, arm) for scenario in concept.in_split(Split.CONFIRMATION) for arm in arms if arm in scenario.arms
    ]
    found = {}
    for number, (scenario, arm) in enumerate(rows):
        prompt = Prompt(
            id=first_id + number,
            suite=suite.id,
            domain=suite.domain,
            concept=concept.id,
            scenario=scenario.id,
            split=scenario.split,
            arm=arm,
            frame=OUTCOME_FRAME,
            text=concept.outcome.ask(scenario.arms[arm]),
            told=concept.outcome.place(scenario.arms[arm]),
            asked=concept.id,
        )
        found[scenario.id, arm] = tokenise(subject.model, prompt, subject.prompt_format)
    return found


def suite_of(suites: Sequence[Suite], concept: Concept) -> Suite:
    """Return the suite that a concept is in."""
    return next(suite for suite in suites if any(one.id == concept.id for one in suite.concepts))
