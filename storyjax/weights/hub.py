"""Where a checkpoint comes from: a path on this machine, or a name on the Hugging Face Hub; of that only what is needed is fetched.

Downloads lie in the cache that every program of Hugging Face shares (HF_HOME); HF_HUB_OFFLINE=1 means that cache alone.
"""

import errno
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from storyjax.errors import StoryjaxError
from storyjax.weights.readers import INDEX, SUFFIXES, usual_name

MODEL_INDEX = "model_index.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w./-]+)?")
_SMALL = (".json", ".txt", ".model")  # configs and tokenizers
NEVER = ("safety_checker",)  # no pipeline here runs it, and it is as large as a text encoder


def locate(
    source: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    patterns: Sequence[str] | None = None,
) -> Path:
    """The file or folder that `source` means, on this machine.

    source: a path, which goes first; else a name on the hub: "org/name", or "org/name/file" for a single file in it. revision: a
    branch, tag or commit there. variant: "fp16" for weight files that have it in their names. patterns: what to fetch, as shell
    patterns, instead of what a model needs (weights once, in the best format; configs; tokenizers).

    Errors, one line each: neither here nor on the hub, no access, no such revision, variant or file; the hub out of reach or not
    to be asked and the model not in the cache; no space.
    """
    if Path(source).exists():
        return Path(source)
    name, file = _hub_name(source)
    listed = _List(name, revision)
    if listed.names is None:
        return listed.from_cache(file)
    if file and file not in listed.names:
        found = [each for each in listed.names if each.endswith(SUFFIXES) and "/" not in each]
        raise StoryjaxError(
            f"'{name}' on the hub has no file '{file}'; it has {', '.join(found) or 'no checkpoint files'}"
        )
    if file:
        patterns = [file]
    elif patterns is None:
        folders = _folders(listed.fetch([MODEL_INDEX])) if MODEL_INDEX in listed.names else None
        patterns = needed_files(name, listed.names, folders, variant)
    return listed.fetch(patterns) / (file or "")


def needed_files(
    name: str, names: Iterable[str], folders: Iterable[str] | None = None, variant: str | None = None
) -> list[str]:
    """Of the files of a repository those that a model needs.

    folders: the parts that its model_index.json lists; None for a repository that is one network alone. Weights are taken in one
    format only, .safetensors before .bin, and in the variant asked for.

    Errors: no weights of that variant; checkpoints without a usual name, of which one must be named.
    """
    names = sorted(names)
    inside: dict[str, set[str]] = {folder: set() for folder in ("", *(folders or ()))}
    for each in names:
        folder, _, file = each.rpartition("/")
        if folder in inside and folder not in NEVER:
            inside[folder].add(file)
    needed = []
    for folder, files in inside.items():
        chosen = {file for file in files if file.endswith(_SMALL) and not INDEX.search(file)}
        checkpoints = sorted(file for file in files if file.endswith(SUFFIXES))
        if folder or folders is None:
            chosen |= _weights(f"{name}/{folder}".rstrip("/"), files, checkpoints, variant)
        needed += sorted(f"{folder}/{file}" if folder else file for file in chosen)
    return needed


def _weights(where: str, files: set[str], checkpoints: list[str], variant: str | None) -> set[str]:
    """The weight files of one folder; nothing where it has none at all, as a tokenizer's."""
    usual = usual_name(files, variant)
    if usual is None and not checkpoints:
        return set()
    if usual is None and variant is None and len(checkpoints) == 1:
        return set(checkpoints)
    if usual is None:
        kind = f"weights of variant '{variant}'" if variant else "weights under a usual name"
        advice = (
            "ask for another variant or none" if variant else f"name one of them, such as '{where}/{checkpoints[0]}'"
        )
        raise StoryjaxError(f"'{where}' on the hub has no {kind}, it has {', '.join(checkpoints)}; {advice}")
    if (index := INDEX.search(usual)) is None:
        return {usual}
    stem, suffix = usual.split(".", 1)[0], index[1]
    middle = rf"\.{re.escape(variant)}" if variant else ""
    shard = re.compile(rf"{stem}({middle}-\d+-of-\d+|-\d+-of-\d+{middle})\.{suffix}")
    return {usual, *filter(shard.fullmatch, files)}


def _folders(folder: Path) -> list[str]:
    """The parts that a model_index.json lists."""
    try:
        index: Any = json.loads((folder / MODEL_INDEX).read_text(encoding="utf-8"))
        return [part for part, said in index.items() if isinstance(said, list) and said[-1]]
    except (OSError, ValueError, AttributeError, IndexError):
        raise StoryjaxError(
            f"'{folder / MODEL_INDEX}' is no model index; delete it and download the model again"
        ) from None


def _hub_name(source: str | Path) -> tuple[str, str]:
    """("org/name", file in it or ""). Error: no such path, and nothing that could be a name."""
    spelled = str(source)
    org, name, file = (*spelled.split("/", 2), "", "")[:3]
    if not isinstance(source, str) or not _NAME.fullmatch(spelled) or ".." in spelled or not _may_be(f"{org}/{name}"):
        raise StoryjaxError(
            f"there is no file or folder at '{spelled}', and it is no name on the Hugging Face Hub (which reads 'org/name')"
        )
    return f"{org}/{name}", file


def _may_be(name: str) -> bool:
    """Whether the hub allows a repository of that name: it has rules about dashes, dots and length."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


class _List:
    """What a repository on the hub has, or why that could not be learned."""

    def __init__(self, name: str, revision: str | None):
        from huggingface_hub import HfApi

        self.name, self.revision = name, revision
        self.names: list[str] | None = None
        self.problem: Exception | None = None
        try:
            info = HfApi(library_name="storyjax").model_info(name, revision=revision, timeout=20)
            self.names = [file.rfilename for file in info.siblings or ()]
        except Exception as error:  # which of a dozen classes it is depends on what keeps the hub from answering
            self.problem = error

    def fetch(self, patterns: Sequence[str]) -> Path:
        """The folder in the cache with at least the files that match; downloads what is not there yet."""
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(
                    self.name, revision=self.revision, allow_patterns=list(patterns), library_name="storyjax"
                )
            )
        except Exception as error:
            raise _told(self.name, self.revision, error) from None

    def from_cache(self, file: str) -> Path:
        """The folder in the cache, or the file in it; the hub was not asked or did not answer."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(
                snapshot_download(
                    self.name, revision=self.revision, allow_patterns=[file or MODEL_INDEX], local_files_only=True
                )
            )
            if not file or (folder / file).is_file():
                return folder / file
        except LocalEntryNotFoundError:
            pass
        raise _told(f"{self.name}/{file}".rstrip("/"), self.revision, self.problem)


def _told(name: str, revision: str | None, error: Exception | None) -> StoryjaxError:
    """What kept a model from being fetched, in one line, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    here = f"'{name}' is neither a file or folder here nor in the cache at '{constants.HF_HUB_CACHE}'"
    if isinstance(error, GatedRepoError):
        text = (
            f"'{name}' asks you to agree to its terms: do so on its page of the hub, then log in with 'hf auth login'"
        )
    elif isinstance(error, RepositoryNotFoundError):
        text = (
            f"{here}, and the hub knows no model of that name; check the spelling, or 'hf auth login' if it is private"
        )
    elif isinstance(error, RevisionNotFoundError):
        text = f"'{name}' on the hub has no revision '{revision}'; leave revision out for the newest"
    elif isinstance(error, OfflineModeIsEnabled):
        text = f"{here}, and HF_HUB_OFFLINE forbids to ask the hub; unset it, or download it where there is a network"
    elif isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "an error")
        text = f"{here}, and the hub answered with {status}; try again later"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"could not download '{name}': {os.strerror(errno.ENOSPC)}; make room and run it again, what is there is kept"
    else:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        text = f"{here}, and the hub did not answer ({reason}); check the network, or give a local folder"
    return StoryjaxError(text)
