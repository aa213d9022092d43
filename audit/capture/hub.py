"""SAEs of the Hugging Face hub: `repo:path@revision`, only that folder's files, by commit."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, errors, snapshot_download

from audit.errors import EnvironmentProblem, SaeInvalid

SYNTAX = "`owner/repository:path@revision`"
_ADDRESS = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<path>[^@#]*))?(?:@(?P<revision>[^@#:]+))?"
)
# No certificate.json: an unsigned claim of the publisher, which reports would print as one of this project.
_CONFIGS = frozenset({"card.json", "cfg.json", "config.json", "hyperparams.json"})
# Where a folder has one of these, its other files are examples or checkpoints, at times larger than the SAE itself.
_MAIN = frozenset({"ae.pt", "params.npz", "params.safetensors", "sae.safetensors", "sae_weights.safetensors"})
_WEIGHTS = frozenset({".safetensors", ".npz", ".pt", ".pth", ".bin"})
# The one layout with weights in a folder below its configuration.
_BELOW = {"hyperparams.json": ("checkpoints/final.safetensors", "checkpoints/pruned.safetensors")}
_SHOWN = 10
_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A folder or a file of a model repository; the path is empty for its root, the revision None for the default."""

    repo: str
    path: str
    revision: str | None

    def __str__(self) -> str:
        path = f":{self.path}" if self.path else ""
        return f"{self.repo}{path}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class HubCopy:
    """What was brought here: `path` in the local cache, `address` with the commit as its revision."""

    path: Path
    address: HubAddress


def parse_address(source: str) -> HubAddress | None:
    """Return the address that `owner/repository:path@revision` names, or None when it cannot be one."""
    found = _ADDRESS.fullmatch(source)
    if found is None:
        return None
    path = PurePosixPath((found["path"] or "").strip("/"))
    if ".." in path.parts:
        return None
    return HubAddress(found["repo"], "" if str(path) == "." else str(path), found["revision"])


def bring(address: HubAddress, *, endpoint: str | None = None) -> HubCopy:
    """Download an SAE's files, or find them in the hub's cache where the hub cannot be reached.

    Only files that a format can have, and only of the folder itself: a repository may hold hundreds of SAEs.

    Args:
        address: which.
        endpoint: of the hub; by default the one of the environment (`HF_ENDPOINT`).

    Raises:
        SaeInvalid: there is no such repository, revision or path, or the path holds no SAE.
        EnvironmentProblem: the hub cannot be reached and the cache has no copy, or access has to be asked for first.
    """
    try:
        # Not `list_repo_files`, which tries for half a minute before it says that there is no network.
        listing = HfApi(endpoint=endpoint).model_info(address.repo, revision=address.revision).siblings or []
        wanted = [glob.escape(name) for name in _wanted(address, [entry.rfilename for entry in listing])]
        # By the name of the revision, not by its commit: then the cache knows it when the hub cannot be reached.
        root = snapshot_download(address.repo, revision=address.revision, allow_patterns=wanted, endpoint=endpoint)
    except errors.RevisionNotFoundError as error:
        raise _missing(address, "revision", str(address.revision)) from error
    except errors.GatedRepoError as error:
        raise EnvironmentProblem(
            item=f"SAE {str(address)!r}",
            expected="access to the repository",
            found="its owner asks for an agreement first",
            hint=f"Ask for access on the repository's page, then log in with `hf auth login` or set {_TOKEN}.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _missing(address, "repository", address.repo) from error
    except errors.HFValidationError as error:
        raise _missing(address, "repository name", address.repo) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        if (copy := find_cached(address)) is None:
            raise _out_of_reach(address, error) from error
        return copy
    return _copy_in(Path(root), address)


def find_cached(address: HubAddress) -> HubCopy | None:
    """Return the copy in the hub's cache, or None. Nothing is downloaded."""
    try:
        # No pattern: whether other SAEs of the repository are there does not matter.
        root = snapshot_download(address.repo, revision=address.revision, allow_patterns=[], local_files_only=True)
    except (errors.HFValidationError, OSError):
        return None
    copy = _copy_in(Path(root), address)
    return copy if copy.path.exists() else None


def _copy_in(root: Path, address: HubAddress) -> HubCopy:
    # The cache keeps each commit in a folder of its name.
    return HubCopy(root / address.path, HubAddress(address.repo, address.path, root.name))


def _wanted(address: HubAddress, names: list[str]) -> list[str]:
    """Return the files of an SAE in a repository's listing."""
    single = address.path in names
    folder = PurePosixPath(address.path).parent if single else PurePosixPath(address.path)
    inside = {PurePosixPath(name).name for name in names if PurePosixPath(name).parent == folder}
    configs = sorted(inside & _CONFIGS)
    if single:
        weights = [PurePosixPath(address.path).name]
    else:
        weights = sorted(inside & _MAIN)
        weights += [name for config in configs for name in _BELOW.get(config, ()) if str(folder / name) in names]
        weights = weights or _only_one(address, folder, inside)
    if weights:
        return [str(folder / name) for name in dict.fromkeys((*configs, *weights))]
    below = sorted({_next_part(name, folder) for name in names if folder in PurePosixPath(name).parents} - {""})
    raise SaeInvalid(
        item=f"SAE {str(address)!r}",
        expected="a path with the files of one SAE",
        found=_shown(below) if below else "no such path in the repository",
        hint=f"Write the path of one SAE: {SYNTAX}.",
    )


def _only_one(address: HubAddress, folder: PurePosixPath, inside: set[str]) -> list[str]:
    """Return the one weights file of a folder without a known layout, which is read as that file.

    Raises:
        SaeInvalid: there are several. None of the formats has such a folder; it may be a model of a hundred GB.
    """
    found = sorted(name for name in inside if PurePosixPath(name).suffix in _WEIGHTS)
    if len(found) > 1:
        one = HubAddress(address.repo, str(folder / found[0]), address.revision)
        raise SaeInvalid(
            item=f"SAE {str(address)!r}",
            expected="a path with the files of one SAE",
            found=f"{len(found)} files of weights in no known layout: {_shown(found)}",
            hint=f"Name one of them, as in `{one}`. Nothing was downloaded.",
        )
    return found


def _next_part(name: str, folder: PurePosixPath) -> str:
    parts = PurePosixPath(name).relative_to(folder).parts
    return f"{parts[0]}/" if len(parts) > 1 else parts[0]


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _out_of_reach(address: HubAddress, error: Exception) -> EnvironmentProblem:
    offline = constants.HF_HUB_OFFLINE
    return EnvironmentProblem(
        item=f"SAE {str(address)!r}",
        expected="the hub, or a copy in its cache",
        found="offline mode is on and there is no copy" if offline else f"no copy, and: {_first_line(error)}",
        hint="Check the network and try again, or download the folder and give its path.",
    )


def _missing(address: HubAddress, what: str, name: str) -> SaeInvalid:
    return SaeInvalid(
        item=f"SAE {str(address)!r}",
        expected=f"a {what} of the hub that can be read, or a local path",
        found=f"no {what} {name!r}",
        hint=f"Check the name: {SYNTAX}. Private repositories need {_TOKEN}.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
