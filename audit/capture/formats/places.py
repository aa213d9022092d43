"""What a format's reader is asked for: where the files lie, what the user calls them, and which site was stated."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from audit.capture.formats.weight_files import PICKLES
from audit.capture.site_names import Side, SiteKind, read_name
from audit.errors import SaeInvalid
from audit.records import SaeRecord

SYNTAX = "`PATH#resid_post.12`, or for a transcoder `PATH#mlp_in.12->mlp_out.12`"
ARROW = "->"
# Parts of a path that say which of a release an SAE is, but not of which release. Narrow, each with its number or its
# site: whatever matches stands in records that strangers read.
_PART_OF_RELEASE = re.compile(
    r"layer_?\d+(?:_(?:width_\d+[km]|l0_[a-z0-9]+|affine))*|width_(?:\d+[km]?|2pow\d+)|(?:average_)?l0_\d+"
    r"|(?:trainer|expansion|seed|ae)_?\d+|(?:blocks|layers|h)\.\d+(?:\.[a-z0-9_.]+)?"
    r"|(?:resid|attn|mlp)_(?:pre|mid|post|in|out|z|delta)(?:_(?:all|layer_\d+|attn|mlp|act|v\d+|\d+k))*"
    r"|transcoder(?:_all)?|canonical|embedding|ae|autoencoders?|checkpoints?|saes?|sae_weights|weights|final|params"
    r"|\d+(?:\.\d+)*",
    re.IGNORECASE,
)
# Names that publishers gave to whole releases.
_RELEASE = re.compile(
    r"(?:gemma-scope|llama-?scope|saebench|pythia-?\d+m|sae-(?:deepseek|gemma|gpt2|llama|pythia|qwen|smollm))[\w.-]*"
    r"|llama3_1-8b-base-l\w+-\d+x|gpt2-(?:small|medium|large|xl)",
    re.IGNORECASE,
)
_WEIGHTS = PICKLES | {".npz", ".safetensors"}
_CACHED = re.compile(r"models--(?P<owner>[^/]+)--(?P<repo>[^/]+)")


@dataclass(frozen=True, slots=True)
class Sites:
    """Where an SAE reads, and what its output stands for: the same site, but for transcoders."""

    site: str
    target: str


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or a file with an SAE.

    Args:
        path: the folder or file.
        source: where it came from, in the user's words.
        name: short name for records.
        stated: the site that the user stated, or None.
    """

    path: Path
    source: str
    name: str
    stated: Sites | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the SAE's files."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def words(self) -> str:
        """Return all that the path and the user's words say, for sites that are written there and nowhere else."""
        return f"{self.source}\n{self.path.absolute().as_posix()}"


def parse_sites(text: str, *, item: str) -> Sites:
    """Return the sites of `resid_post.12` or `mlp_in.12->mlp_out.12`.

    Raises:
        SaeInvalid: one of them is no name of a site.
    """
    site, _, target = text.partition(ARROW)
    return Sites(canonical_site(site, item=item), canonical_site(target or site, item=item))


def canonical_site(name: str, *, item: str) -> str:
    """Return this project's name for a published hook.

    The name of a module whose output may still go through a norm is kept: whether the site is what it says depends on
    the model (see `site_names`).

    Raises:
        SaeInvalid: it is no name of a site that can be read.
    """
    name = name.strip()
    published = read_name(name)
    if published is None:
        raise SaeInvalid(
            item=item,
            expected=f"a site of a decoder layer ({', '.join(SiteKind)}), or a published hook's name for one",
            found=name or "none",
            hint=f"No audit can read there. A site is stated as {SYNTAX}.",
        )
    return name if published.side is Side.MODULE else f"{published.kind}.{published.layer}"


def settle_sites(place: Place, found: Sites | None) -> Sites:
    """Return the sites that the files and the user agree on.

    Args:
        place: with what the user stated.
        found: what the files or their path say, or None.

    Raises:
        SaeInvalid: they contradict each other, or neither says it.
    """
    if place.stated is None:
        if found is None:
            raise SaeInvalid(
                item=f"SAE {place.source!r}",
                expected="the site that it was trained at",
                found="files that do not say it",
                hint=f"State it behind the path: {SYNTAX}.",
            )
        return found
    if found is not None and _where(found) != _where(place.stated):
        raise SaeInvalid(
            item=f"SAE {place.source!r}",
            expected=f"the site in its files, {_shown(found)}",
            found=f"{_shown(place.stated)} behind the path",
            hint="Leave the site out, or correct it.",
        )
    return found or place.stated


def new_record(
    place: Place,
    sites: Sites,
    *,
    form: str,
    architecture: str,
    latents: int,
    width: int,
    target_width: int,
    digest: str,
    k: int | None = None,
    training_tokens: int | None = None,
    notes: tuple[str, ...] = (),
) -> SaeRecord:
    """Return what is known of an SAE of another project; transcoders are called so."""
    kind = "" if sites.site == sites.target else ", transcoder"
    return SaeRecord(
        name=place.name,
        site=sites.site,
        target=sites.target,
        architecture=f"{architecture}{kind}",
        format=form,
        source=place.source,
        latents=latents,
        k=k,
        width=width,
        target_width=target_width,
        digest=digest,
        training_tokens=training_tokens,
        training_updates=None,
        training_data_digest=None,
        licence="not stated",
        notes=notes,
    )


def short_name(path: Path) -> str:
    """Return the name of an SAE's folder, or of its file without the ending, with what a release's layout puts above.

    A record is handed to strangers: a folder above is named only where it is a part of a published layout, and the one
    above those only where it is the name of a release. Where the SAE lies on this machine is never told.
    """
    # Not resolved: the hub's cache has links to files that are named by their digest.
    parts = Path(os.path.normpath(path.absolute())).parts
    cached = next((n for n, part in enumerate(parts) if _CACHED.fullmatch(part)), None)
    if cached is not None and parts[cached + 1 : cached + 2] == ("snapshots",):
        repo = _CACHED.fullmatch(parts[cached])
        # models--OWNER--REPO/snapshots/COMMIT/...: the hub's cache.
        return printable("/".join([repo["repo"] if repo else "", *parts[cached + 3 :]]))
    own = Path(parts[-1])
    name = [own.stem if own.suffix in _WEIGHTS else own.name]
    for part in reversed(parts[1:-1]):
        layout = _PART_OF_RELEASE.fullmatch(part) is not None
        if not _PART_OF_RELEASE.fullmatch(name[0]) or not (layout or _RELEASE.fullmatch(part)):
            break
        name.insert(0, part)
    return printable("/".join(name))


def printable(name: str) -> str:
    """Return a name without characters that a report cannot print."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _where(sites: Sites) -> list[tuple[SiteKind, int] | None]:
    names = (read_name(sites.site), read_name(sites.target))
    return [(name.kind, name.layer) if name is not None else None for name in names]


def _shown(sites: Sites) -> str:
    return sites.site if sites.site == sites.target else f"{sites.site}{ARROW}{sites.target}"
