"""``multipart/form-data`` bodies (RFC 7578)."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

from ._headers import Headers
from ._query import PrimitiveData, primitive_to_str

FileContent = IO[bytes] | bytes | str
FileTypes = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
RequestFiles = Mapping[str, FileTypes] | Sequence[tuple[str, FileTypes]]
Segment = bytes | IO[bytes]

# The characters that would end a quoted parameter, escaped as HTML's form submission does.
_PARAMETER = {ord('"'): "%22", ord("\\"): "\\\\"} | {code: f"%{code:02X}" for code in range(0x20) if code != 0x1B}


def _parameter(name: str, value: str) -> str:
    return f'{name}="{value.translate(_PARAMETER)}"'


def _file_content(content: Any) -> Segment:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    if not hasattr(content, "read"):
        raise TypeError(f"a file to upload is bytes, str or an open binary file, not {type(content).__name__}")
    if isinstance(content, io.TextIOBase):
        raise TypeError("a file to upload must be opened in binary mode, not in text mode")
    file: IO[bytes] = content
    return file


def _file_part(name: str, value: Any) -> list[Segment]:
    filename: str | None
    headers: Mapping[str, str] = {}
    content_type: str | None = None
    if isinstance(value, tuple):
        filename, content = value[0], value[1]
        if len(value) > 2:
            content_type = value[2]
        if len(value) > 3:
            headers = value[3]
    else:
        filename, content = os.path.basename(str(getattr(value, "name", "upload"))), value
    fields = Headers(dict(headers), encoding="utf-8")
    if "content-type" not in fields:
        if content_type is None:
            content_type = _guess_content_type(filename)
        if content_type is not None:
            fields["Content-Type"] = content_type
    disposition = f"form-data; {_parameter('name', name)}"
    if filename:
        disposition += f"; {_parameter('filename', filename)}"
    return [_part_head(disposition, fields), _file_content(content)]


def _guess_content_type(filename: str | None) -> str | None:
    if not filename:
        return None
    import mimetypes

    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _part_head(disposition: str, fields: Headers) -> bytes:
    head = [b"Content-Disposition: " + disposition.encode()]
    for name, value in fields.raw:
        if b"\r" in name + value or b"\n" in name + value:
            raise ValueError(f"a header of a file to upload has a line break in it: {name!r}")
        head.append(name + b": " + value)
    return b"\r\n".join(head) + b"\r\n\r\n"


def _form_parts(data: Mapping[str, Any]) -> list[list[Segment]]:
    parts: list[list[Segment]] = []
    for name, value in data.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a form field must be str, not {type(name).__name__}: {name!r}")
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, bytes):
                content = item
            elif item is None or isinstance(item, (str, int, float)):
                plain: PrimitiveData = item
                content = primitive_to_str(plain).encode()
            else:
                raise TypeError(
                    f"the value of a form field must be str, bytes, int, float or None, not {type(item).__name__}"
                )
            parts.append([_part_head(f"form-data; {_parameter('name', name)}", Headers()), content])
    return parts


def given_boundary(content_type: str) -> bytes | None:
    """The boundary that a Content-Type header asks for."""
    kind, *parameters = content_type.split(";")
    if kind.strip().lower() == "multipart/form-data":
        for parameter in parameters:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "boundary" and value:
                return value.strip('"').encode("ascii")
    return None


def encode_multipart(data: Mapping[str, Any], files: RequestFiles, boundary: bytes | None) -> tuple[str, list[Segment]]:
    """The Content-Type, and what the body is put together from. Open files stand for what they hold, from its start."""
    mark = boundary or os.urandom(16).hex().encode("ascii")
    parts = _form_parts(data)
    parts += [_file_part(name, value) for name, value in (files.items() if isinstance(files, Mapping) else files)]
    body: list[Segment] = []
    for part in parts:
        body += [b"--" + mark + b"\r\n", *part, b"\r\n"]
    body.append(b"--" + mark + b"--\r\n")
    return f"multipart/form-data; boundary={mark.decode('ascii')}", body
