"""Where results go: JSON lines, with bodies within them, in files of their own, or left out."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

from ._journal import Journal
from ._many import FetchResult

Bodies: TypeAlias = Literal["inline", "files", "none"]

_BATCH_RESULTS_MAX: Final = 2000
_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
_BATCH_SECONDS_MAX: Final = 1.0


class JsonLines:
    """A file of results, one JSON object on each line, in the order in which they came.

    With a journal results are committed in batches: they are on disk before the journal says so.
    """

    def __init__(self, path: Path | None, journal: Journal | None, bodies: Bodies) -> None:
        self._journal = journal
        self._bodies = bodies
        self._folder = None if path is None else path.with_name(path.name + ".bodies")
        self._file: BinaryIO = sys.stdout.buffer if path is None else open(path, "ab")
        if journal is not None:
            # What a killed run wrote without committing it.
            self._file.truncate(journal.output_bytes)
            self._file.seek(0, os.SEEK_END)
        self._lines: list[bytes] = []
        self._rows: list[int] = []
        self._batch_bytes = 0
        self._committed = time.monotonic()

    def add(self, result: FetchResult) -> None:
        """Add a result, and commit the batch when it is full or has waited for long enough. As `commit`."""
        line = json.dumps(self._object(result), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._lines.append(line)
        self._rows.append(result.row.index)
        self._batch_bytes += len(line)
        is_full = len(self._lines) >= _BATCH_RESULTS_MAX or self._batch_bytes >= _BATCH_BYTES_MAX
        if is_full or time.monotonic() - self._committed >= _BATCH_SECONDS_MAX:
            self.commit()

    def commit(self) -> None:
        """Write what was added, and note it in the journal.

        OSError when the disk is full or a body cannot be written: then nothing of the batch is committed.
        """
        if not self._lines:
            return
        self._file.write(b"".join(self._lines))
        self._file.flush()
        if self._journal is not None:
            os.fsync(self._file.fileno())
            self._journal.commit(self._rows, self._file.tell())
        self._lines.clear()
        self._rows.clear()
        self._batch_bytes = 0
        self._committed = time.monotonic()

    def close(self) -> None:
        """Close the file. What was not committed is lost."""
        if self._file is not sys.stdout.buffer:
            self._file.close()

    def _object(self, result: FetchResult) -> dict[str, Any]:
        row = result.row
        line: dict[str, Any] = {"row": row.index, "url": row.url}
        if row.method != "GET":
            line["method"] = row.method
        line["seconds"] = round(result.seconds, 6)
        if result.response is None:
            error = result.error
            line["error"] = {"type": type(error).__name__, "message": str(error)}
            return line
        response = result.response
        line["status"] = response.status_code
        line["http_version"] = response.http_version
        if str(response.url) != row.url:
            line["final_url"] = str(response.url)
        line["headers"] = dict(response.headers)
        line["bytes"] = len(response.content)
        return line | self._body(response.content)

    def _body(self, content: bytes) -> dict[str, Any]:
        if self._bodies == "none":
            return {}
        if self._bodies == "files":
            return {"sha256": self._store(content)}
        try:
            return {"body": content.decode()}
        except UnicodeDecodeError:
            return {"body_base64": base64.b64encode(content).decode()}

    def _store(self, content: bytes) -> str:
        """Put a body into the folder, under its hash: equal ones are there once."""
        assert self._folder is not None
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest[:2] / digest
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written aside, so that a file under its hash is always whole.
            aside = path.with_suffix(f".{os.getpid()}")
            with open(aside, "wb") as file:
                file.write(content)
                if self._journal is not None:
                    file.flush()
                    os.fsync(file.fileno())
            aside.rename(path)
        return digest
