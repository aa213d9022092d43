"""The language of one report: its messages come from one catalogue, `templates/languages/<code>.po`.

The messages are written in English where they are printed, and English needs no file. A translation is looked up when
a message is printed, in the language that `speaking` chose for the report that is being made.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Formatter

import polib

from audit.errors import EnvironmentProblem, UsageError

SOURCE = "en"
PACKAGE, FOLDER, TEMPLATE = "templates", "languages", "affidavit.pot"
_SUFFIX = ".po"


@dataclass(frozen=True, slots=True)
class Language:
    """A language with its messages.

    Args:
        code: as `report.language` and the documents name it, such as `de` or `pt-BR`.
        messages: looks a message up, and returns the English one where the file has none.
        missing: how many messages of the catalogue the file does not translate.
        total: how many messages there are; 0 for English, which is not looked up.
    """

    code: str
    messages: gettext.NullTranslations
    missing: int = 0
    total: int = 0


_ENGLISH = Language(SOURCE, gettext.NullTranslations())
# A context variable: two reports that are made side by side, or one within the other, each keep their own language.
_SPOKEN: ContextVar[Language] = ContextVar("language", default=_ENGLISH)


def N_(message: str) -> str:  # noqa: N802 - the name that gettext's documentation and extractors use
    """Return the message as it is: it enters the catalogue here and is translated where it is printed."""
    return message


def _(message: str, /, **values: object) -> str:
    """Return a message in the report's language, with its placeholders filled in.

    Args:
        message: English, whole, with `{name}` where a value goes.
        values: by the names of the placeholders, each ready to print.
    """
    # gettext keeps the head of a file under the empty message.
    text = _SPOKEN.get().messages.gettext(message) if message else ""
    return text.format(**values) if values else text


def ngettext(one: str, several: str, number: int, /, **values: object) -> str:
    """Return the form of a message that the number takes in the report's language; English has two.

    Args:
        one: the English message for one.
        several: the English message for any other number.
        number: decides between the forms.
        values: by the names of the placeholders, the printed number among them.
    """
    return _SPOKEN.get().messages.ngettext(one, several, number).format(**values)


def spoken() -> Language:
    """Return the language of the report that is being made."""
    return _SPOKEN.get()


@contextmanager
def speaking(code: str) -> Iterator[Language]:
    """Print in a language until the block ends.

    Raises:
        UsageError: there is no such language.
        EnvironmentProblem: its file is damaged.
    """
    language = language_of(code)
    token = _SPOKEN.set(language)
    try:
        yield language
    finally:
        _SPOKEN.reset(token)


def languages() -> tuple[str, ...]:
    """Return the codes of the languages that are there, English first."""
    found = [item.name.removesuffix(_SUFFIX) for item in _folder().iterdir() if item.name.endswith(_SUFFIX)]
    return (SOURCE, *sorted(found))


def language_of(code: str) -> Language:
    """Return a language by its code.

    Raises:
        UsageError: there is no such language.
        EnvironmentProblem: its file is damaged.
    """
    if code == SOURCE:
        return _ENGLISH
    known = languages()
    # Looked up by name before a file is opened: the code may come from a manifest that nobody has checked.
    if code not in known:
        raise UsageError(
            item="report.language",
            expected=f"one of {', '.join(known)}",
            found=code[:80],
            hint="Choose one of these, or add the file that docs/translation.md describes.",
        )
    return _read(code)


@cache
def _read(code: str) -> Language:
    return parse_language(code, _file(code + _SUFFIX), template=_file(TEMPLATE))


def _folder() -> Traversable:
    return files(PACKAGE).joinpath(FOLDER)


def _file(name: str) -> str:
    return _folder().joinpath(name).read_text(encoding="utf-8")


def parse_language(code: str, text: str, *, template: str) -> Language:
    """Return the language of a .po file.

    Args:
        code: the language.
        text: the file.
        template: the English template, which says which messages there are.

    Raises:
        EnvironmentProblem: the file is no .po file, translates no message of the template, or leaves out a
            placeholder.
    """
    name = f"{PACKAGE}/{FOLDER}/{code}{_SUFFIX}"
    try:
        entries, wanted = polib.pofile(text), polib.pofile(template)
        messages = gettext.GNUTranslations(io.BytesIO(entries.to_binary()))
    except (OSError, ValueError, UnicodeError) as error:
        raise EnvironmentProblem(
            item=name,
            expected="a gettext .po file in UTF-8",
            found=str(error).splitlines()[0][:120],
            hint="Run `msgfmt --check` on it, or take it from the package again.",
        ) from error
    translated = {entry.msgid for entry in entries if entry.translated()}
    for entry in entries:
        if entry.msgid in translated:
            _check_placeholders(entry, name)
    missing = sum(entry.msgid not in translated for entry in wanted)
    if missing == len(wanted):
        raise EnvironmentProblem(
            item=name,
            expected=f"translations of the messages in {PACKAGE}/{FOLDER}/{TEMPLATE}",
            found="none of them",
            hint="Make the file as docs/translation.md says.",
        )
    return Language(code, messages, missing=missing, total=len(wanted))


def _check_placeholders(entry: polib.POEntry, name: str) -> None:
    """Refuse a translation that would fail when it is printed, or would leave out a value."""
    expected = placeholders(entry.msgid_plural or entry.msgid)
    for form in entry.msgstr_plural.values() or (entry.msgstr,):
        found = placeholders(form)
        # One form of a plural may spell the number out.
        if found is None or not (
            found == expected or (entry.msgid_plural and found == (expected or set()) - {"count"})
        ):
            raise EnvironmentProblem(
                item=f"{name}, line {entry.linenum}",
                expected=f"the placeholders of the message: {', '.join(sorted(expected or ())) or 'none'}",
                found=form[:120],
                hint="Keep each {name} of the message, and no other brace.",
            )


def placeholders(message: str) -> set[str] | None:
    """Return the names in braces; None where the braces do not match or hold more than a name."""
    try:
        parts = list(Formatter().parse(message))
    except ValueError:
        return None
    names = [(name, spec, conversion) for _text, name, spec, conversion in parts if name is not None]
    if any(not name.isidentifier() or spec or conversion for name, spec, conversion in names):
        return None
    return {name for name, *_rest in names}
