"""Find the SAEs that a configuration names, wherever they lie, and read them in whatever format they have.

A source is `default`, the name of a shipped SAE, a folder or a file, `owner/repository:path@revision` of the Hugging
Face hub, or `saelens:RELEASE/SAE_ID`. Where the files do not say at which site the SAE was trained, `#SITE` or
`#SITE->TARGET` behind it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from audit.capture import hub, saelens_releases
from audit.capture.formats import places, table
from audit.capture.formats.places import Place, Sites
from audit.capture.sae import Sae
from audit.config import DEFAULT_SOURCE
from audit.errors import SaeInvalid

MAIN = "smollm2-135m-instruct.resid_post.15"
SHIPPED = (MAIN, "smollm2-135m-instruct.resid_post.20")
SHIPPED_CONTROLS = (f"{MAIN}.frozen-decoder",)
_SITE_MARK = "#"


def expand_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the SAEs that sources name: `default` stands for the shipped instruments, main one first."""
    return tuple(name for source in sources for name in (SHIPPED if source == DEFAULT_SOURCE else (source,)))


def locate_sae(source: str) -> Path:
    """Return the folder of an SAE on this machine. Nothing is downloaded.

    For an SAE of the hub this is its copy in the hub's cache; a path that does not exist when there is none.
    """
    path = _split_site(source)[0]
    local = _local(path)
    if not local.exists() and (address := hub.parse_address(path)) is not None:
        copy = hub.find_cached(address)
        local = local if copy is None else copy.path
    return local.parent if local.is_file() else local


def certificate_folder(source: str) -> Path | None:
    """Return the folder in which a certificate of this SAE lies or may be written, or None.

    Only a folder of the user's own, or a shipped one, has a place for it: beside a single file another SAE may lie, and
    what comes with a download is its publisher's claim.
    """
    local = _local(_split_site(source)[0])
    return local if local.is_dir() else None


def load_sae(source: str) -> Sae:
    """Load an SAE or transcoder from wherever a source names it, in any known format.

    Raises:
        SaeInvalid: there is none, it is in no known format, or its files are damaged, not finite, want to run code, or
            contradict each other or the site that was stated.
        EnvironmentProblem: the hub cannot be reached, or SAELens is asked for and not installed.
    """
    path, site = _split_site(source)
    stated = places.parse_sites(site, item=f"SAE {source!r}") if site else None
    if path.startswith(saelens_releases.PREFIX):
        return saelens_releases.load_release(path, stated=stated)
    local = _local(path)
    if local.exists():
        sae = table.read_place(Place(local, source, places.short_name(local), stated))
        # A record is handed to strangers: where the file lay on this machine is none of their business.
        known = f"{local.resolve().name}{_SITE_MARK}{site}" if site else local.resolve().name
        return replace(sae, record=replace(sae.record, source=known))
    address = hub.parse_address(path)
    if address is None:
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected=f"a folder, a file, the name of a shipped SAE, or {hub.SYNTAX}",
            found="nothing of that name",
            hint="Give the folder of a trained SAE.",
        )
    return _load_from_hub(address, site=site, stated=stated)


def _load_from_hub(address: hub.HubAddress, *, site: str, stated: Sites | None) -> Sae:
    copy = hub.bring(address)
    mark = f"{_SITE_MARK}{site}" if site else ""
    name = places.printable("/".join(part for part in (address.repo.partition("/")[2], address.path) if part))
    return table.read_place(Place(copy.path, f"{copy.address}{mark}", name, stated))


def _split_site(source: str) -> tuple[str, str]:
    """Return the path and the site behind its last `#`; a path that exists may have one in its name."""
    path, mark, site = source.rpartition(_SITE_MARK)
    if not mark or Path(source).expanduser().exists():
        return source, ""
    return path, site


def _local(source: str) -> Path:
    name = MAIN if source == DEFAULT_SOURCE else source
    shipped = Path(str(files("audit.capture"))) / "saes" / name
    return shipped if "/" not in name and shipped.is_dir() else Path(source).expanduser()
