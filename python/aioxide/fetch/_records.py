"""What is kept of a result: its facts, and its body within them, in a file of its own, or not at all."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from ._many import FetchResult

Bodies: TypeAlias = Literal["inline", "hash", "rows", "none"]
# A record's facts by name; its body, if it is within, is bytes under "body".
Record: TypeAlias = dict[str, Any]

_ROWS_PER_FOLDER: Final = 1000
# Only what Python itself knows, so that a body's name is the same on every machine.
_TYPES: Final = mimetypes.MimeTypes(filenames=())


class Keeper(Protocol):
    """Does with a body what the user wants."""

    def keep(self, row: int, content: bytes, content_type: str) -> Record:
        """What the record says of the body. OSError if it cannot be written."""

    def sync(self) -> None:
        """Return when what was kept is safely on disk. OSError if it cannot be."""


def record_of(result: FetchResult, keeper: Keeper) -> Record:
    """A result's record: row, url, seconds, and either status, headers, bytes and the body's facts, or the error."""
    row = result.row
    record: Record = {"row": row.index, "url": row.url}
    if row.method != "GET":
        record["method"] = row.method
    record["seconds"] = round(result.seconds, 6)
    response = result.response
    if response is None:
        record["error"] = {"type": type(result.error).__name__, "message": str(result.error)}
        return record
    record["status"] = response.status_code
    record["http_version"] = response.http_version
    final_url = str(response.url)
    if final_url != row.url:
        record["final_url"] = final_url
    headers = record["headers"] = dict(response.headers)
    content = response.content
    record["bytes"] = len(content)
    return record | keeper.keep(row.index, content, headers.get("content-type", ""))


class Inline:
    """The body is in the record."""

    def keep(self, row: int, content: bytes, content_type: str) -> Record:
        """The body itself."""
        return {"body": content}

    def sync(self) -> None:
        """There is nothing beside the records."""


class Dropped:
    """The body is not kept."""

    def keep(self, row: int, content: bytes, content_type: str) -> Record:
        """Nothing."""
        return {}

    def sync(self) -> None:
        """There is nothing beside the records."""


class _InFiles:
    """Bodies in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unsynced: list[Path] = []

    def _store(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside, so that a file under its name is always whole.
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_bytes(content)
        aside.rename(path)
        self._unsynced.append(path)

    def sync(self) -> None:
        """Every file, and the folders that name them."""
        folders = {parent for path in self._unsynced for parent in (path.parent, path.parent.parent)}
        for path in [*self._unsynced, *folders]:
            sync(path)
        self._unsynced.clear()


class ByHash(_InFiles):
    """Each body in a file named by its SHA-256: equal ones are there once."""

    def keep(self, row: int, content: bytes, content_type: str) -> Record:
        """The hash."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest[:2] / digest
        if not path.exists():
            self._store(path, content)
        return {"sha256": digest}


class ByRow(_InFiles):
    """Each body in a file named by its row's number, with the ending of its type."""

    def keep(self, row: int, content: bytes, content_type: str) -> Record:
        """The file's name within the folder."""
        ending = _TYPES.guess_extension(content_type.partition(";")[0].strip()) or ".bin"
        name = f"{row // _ROWS_PER_FOLDER:06}/{row:09}{ending}"
        self._store(self._folder / name, content)
        return {"file": name}


def keeper_of(bodies: Bodies, folder: Path | None) -> Keeper:
    """What does `bodies` with a body; `folder` is where the files of ``hash`` and ``rows`` go."""
    if bodies == "inline":
        return Inline()
    if bodies == "none":
        return Dropped()
    assert folder is not None
    return ByHash(folder) if bodies == "hash" else ByRow(folder)


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
