"""From suites to tokens: every prompt that an audit runs, with the positions that carry the scenario's own words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from audit.capture.model import LoadedModel
from audit.config import PromptFormat
from audit.errors import ConfigError, PromptTooLong, SuiteError
from probes.schema import OUTCOME_FRAME, Arm, Cell, Concept, Order, Outcome, Split, Suite


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text that is put to the model: a scenario's arm in a frame, or a cell of a mix in one order of its clauses.

    Args:
        concept: id of the concept, or of the mix.
        arm: of a concept's scenario; the cell of a mix.
        frame: its name; the order of a mix; `OUTCOME_FRAME` where a question is asked.
        second_at: where in the text the second clause of a mix begins, in characters; None for concepts.
        asked: the concept whose question is asked; None where none is.
        told: where in the text of a question the scenario's own text stands, in characters; None where none is asked.
    """

    id: int
    suite: str
    domain: str
    concept: str
    scenario: str
    split: Split
    arm: Arm | Cell
    frame: str
    text: str
    second_at: int | None = None
    asked: str | None = None
    told: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """A prompt as the model sees it.

    Args:
        ids: token ids, template included.
        pieces: the text of each token.
        content: which tokens belong to the prompt's own text; False for BOS and template tokens.
        second: position of the first token of a mix's second clause; None for concepts.
        told: of a question, which tokens belong to the scenario's own text; None where none is asked.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    content: tuple[bool, ...]
    second: int | None = None
    told: tuple[bool, ...] | None = None

    @property
    def scenario_text(self) -> tuple[bool, ...]:
        """Return which tokens belong to the scenario's own text: the content, without the words of a question."""
        return self.content if self.told is None else self.told

    @property
    def id(self) -> int:
        """Return the prompt's number."""
        return self.prompt.id

    @property
    def label(self) -> str:
        """Return how an error names it."""
        return f"scenario {self.prompt.scenario}, arm {self.prompt.arm.value}"


def list_prompts(suites: Iterable[Suite]) -> tuple[Prompt, ...]:
    """Return every (scenario, measured arm, frame) of the suites in file order, numbered from 0."""
    rows = [
        (suite, concept, scenario, arm, frame.name, frame.wrap(scenario.arms[arm]))
        for suite in suites
        for concept in suite.concepts
        for scenario in concept.scenarios
        for arm in scenario.measured_arms
        for frame in suite.frames
    ]
    return tuple(
        Prompt(number, suite.id, suite.domain, concept.id, scenario.id, scenario.split, arm, frame, text)
        for number, (suite, concept, scenario, arm, frame, text) in enumerate(rows)
    )


def list_outcome_prompts(suites: Iterable[Suite], *, first_id: int) -> tuple[Prompt, ...]:
    """Return the outcome questions: concept and control arm of each scenario whose concept asks one."""
    rows = [
        (suite, concept, concept.outcome, scenario, arm)
        for suite in suites
        for concept in suite.concepts
        for scenario in concept.scenarios
        for arm in (Arm.CONCEPT, Arm.CONTROL)
    ]
    asked = [(s, c, o, sc.arms[arm], sc, arm) for s, c, o, sc, arm in rows if o is not None]
    return tuple(
        Prompt(
            first_id + n,
            suite.id,
            suite.domain,
            concept.id,
            sc.id,
            sc.split,
            arm,
            OUTCOME_FRAME,
            outcome.ask(text),
            asked=concept.id,
            told=outcome.place(text),
        )
        for n, (suite, concept, outcome, text, sc, arm) in enumerate(asked)
    )


def list_mix_prompts(suites: Iterable[Suite], *, first_id: int) -> tuple[Prompt, ...]:
    """Return every (scenario, cell, order) of the suites' mixes, in file order."""
    rows = [
        (suite, mix, scenario, cell, order)
        for suite in suites
        for mix in suite.mixes
        for scenario in mix.scenarios
        for cell in Cell
        for order in Order
    ]
    return tuple(
        Prompt(
            id=first_id + number,
            suite=suite.id,
            domain=suite.domain,
            concept=mix.id,
            scenario=scenario.id,
            split=scenario.split,
            arm=cell,
            frame=order.value,
            text=scenario.text(cell, order),
            second_at=scenario.second_at(cell, order),
        )
        for number, (suite, mix, scenario, cell, order) in enumerate(rows)
    )


def list_mix_questions(suites: Iterable[Suite], *, first_id: int) -> tuple[Prompt, ...]:
    """Return the questions of both concepts about the mixes: both clauses, and each alone beside the other's filler.

    The first concept's clause stands in front. A concept without an outcome question asks none.
    """
    suites = tuple(suites)
    outcomes = {concept.id: concept.outcome for suite in suites for concept in suite.concepts}
    rows = [
        (suite, mix, scenario, cell, asked, outcome)
        for suite in suites
        for mix in suite.mixes
        for scenario in mix.scenarios
        for asked in mix.concepts
        if (outcome := outcomes.get(asked)) is not None
        for cell in (Cell.BOTH, Cell.FIRST, Cell.SECOND)
    ]
    return tuple(
        Prompt(
            id=first_id + number,
            suite=suite.id,
            domain=suite.domain,
            concept=mix.id,
            scenario=scenario.id,
            split=scenario.split,
            arm=cell,
            frame=OUTCOME_FRAME,
            text=outcome.ask(scenario.text(cell, Order.A_FIRST)),
            asked=asked,
            told=outcome.place(scenario.text(cell, Order.A_FIRST)),
        )
        for number, (suite, mix, scenario, cell, asked, outcome) in enumerate(rows)
    )


def resolve_format(model: LoadedModel, wanted: PromptFormat | None) -> PromptFormat:
    """Return the format to use: the wanted one, else chat when the model has a chat template.

    Raises:
        ConfigError: chat is wanted and the model has no chat template.
    """
    has_template = model.record.chat_template
    if wanted is PromptFormat.CHAT and not has_template:
        raise ConfigError(
            item="probes.format",
            expected="a model with a chat template",
            found=f"{model.record.name} has none",
            hint='Set probes.format = "plain".',
        )
    return wanted or (PromptFormat.CHAT if has_template else PromptFormat.PLAIN)


def tokenise(model: LoadedModel, prompt: Prompt, prompt_format: PromptFormat) -> TokenisedPrompt:
    """Return the prompt's tokens, in the model's chat template or plain.

    Raises:
        PromptTooLong: the prompt does not fit the model's context. Nothing is cut.
        SuiteError: the chat template altered the prompt's text, so its tokens cannot be located.
    """
    tokenizer = model.tokenizer
    text, start = _render(tokenizer, prompt.text, prompt_format)
    if start < 0:
        raise SuiteError(
            item=f"scenario {prompt.scenario}, arm {prompt.arm.value}",
            expected="a text that the model's chat template leaves as it is",
            found="the template changed or trimmed it",
            hint="Remove leading, trailing or special characters from the text.",
        )
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=prompt_format is PromptFormat.PLAIN)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    if len(ids) > model.context_tokens:
        raise PromptTooLong(
            item=f"scenario {prompt.scenario}, arm {prompt.arm.value}, frame {prompt.frame}",
            expected=f"at most {model.context_tokens} tokens, the context of {model.record.name}",
            found=f"{len(ids)} tokens",
            hint="Shorten the scenario; prompts are never cut.",
        )
    end = start + len(prompt.text)
    special = set(tokenizer.all_special_ids)
    content = tuple(
        left < end and right > start and right > left and token not in special
        for token, (left, right) in zip(ids, spans, strict=True)
    )
    pieces = tuple(text[left:right] for left, right in spans)
    told = None
    if prompt.told is not None:
        begin, behind = (start + place for place in prompt.told)
        told = tuple(own and left < behind and right > begin for own, (left, right) in zip(content, spans, strict=True))
    return TokenisedPrompt(prompt, tuple(ids), pieces, content, _second_clause(prompt, start, spans), told)


def _second_clause(prompt: Prompt, start: int, spans: Sequence[tuple[int, int]]) -> int | None:
    """Return the position of the first token with a character of the second clause."""
    if prompt.second_at is None:
        return None
    begin = start + prompt.second_at
    return next(place for place, (left, right) in enumerate(spans) if right > begin and right > left)


def _render(tokenizer: Any, text: str, prompt_format: PromptFormat) -> tuple[str, int]:  # noqa: ANN401
    if prompt_format is PromptFormat.PLAIN:
        return text, 0
    message = [{"role": "user", "content": text}]
    rendered: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    turn: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=False)
    # The last occurrence before the answer begins: a template may quote an earlier turn, and the words that open the
    # answer ("assistant") may be those of the prompt.
    return rendered, rendered.rfind(text, 0, len(turn) if rendered.startswith(turn) else None)


@dataclass(frozen=True, slots=True)
class OutcomeTokens:
    """The two continuations of an outcome as single token ids."""

    target: int
    foil: int


def outcome_tokens(model: LoadedModel, concept: Concept, outcome: Outcome) -> OutcomeTokens:
    """Return the token ids of an outcome's target and foil.

    Raises:
        SuiteError: a continuation is not exactly one token of this model's tokenizer, or both are the same token.
    """
    ids = {}
    for name, text in (("target", outcome.target), ("foil", outcome.foil)):
        tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(tokens) != 1:
            raise SuiteError(
                item=f"concept {concept.id}: outcome.{name} {text!r}",
                expected=f"one token of {model.record.name}'s tokenizer",
                found=f"{len(tokens)} tokens",
                hint="Choose shorter continuations, such as Yes and No.",
            )
        ids[name] = int(tokens[0])
    if ids["target"] == ids["foil"]:
        raise SuiteError(
            item=f"concept {concept.id}: outcome",
            expected="two different continuations",
            found=f"{outcome.target!r} twice",
            hint="Choose another foil.",
        )
    return OutcomeTokens(**ids)
