"""Headers: a case-insensitive multi-dict that keeps the order and the spelling of what went over the wire."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, Sequence, ValuesView
from typing import Any, Self, Union

HeaderTypes = Union[
    "Headers",
    Mapping[str, str],
    Mapping[bytes, bytes],
    Sequence[tuple[str, str]],
    Sequence[tuple[bytes, bytes]],
]
RawHeaders = list[tuple[bytes, bytes]]

_SECRET = (b"authorization", b"proxy-authorization")


def _encode(text: str | bytes, encoding: str, what: str) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"header {what} must be str or bytes, not {type(text).__name__}")
    return text.encode(encoding)


class Headers(MutableMapping[str, str]):
    """Header fields. Names are case-insensitive; a field may appear several times, and is then read joined by ``", "``.

    Made from a mapping or a list of pairs, of str or bytes. Values that are str are encoded as ASCII unless `encoding`
    says otherwise.

    >>> headers = Headers({"Content-Type": "text/plain"})
    >>> headers["content-type"]
    'text/plain'
    >>> Headers([("Via", "a"), ("via", "b")]).get_list("VIA")
    ['a', 'b']
    """

    __slots__ = ("_encoding", "_list")

    def __init__(self, headers: HeaderTypes | None = None, encoding: str | None = None) -> None:
        self._encoding = encoding
        if headers is None:
            self._list: RawHeaders = []
        elif isinstance(headers, Headers):
            self._list = headers._list.copy()
        else:
            pairs: Iterable[tuple[Any, Any]] = headers.items() if isinstance(headers, Mapping) else headers
            self._list = [
                (_encode(name, encoding or "ascii", "names"), _encode(value, encoding or "ascii", "values"))
                for name, value in pairs
            ]

    @classmethod
    def _adopt(cls, raw: RawHeaders) -> Self:
        """Wrap a list that nobody else will change."""
        headers = cls.__new__(cls)
        headers._encoding = None
        headers._list = raw
        return headers

    @property
    def encoding(self) -> str:
        """The encoding in which values are read.

        The one that was set, else the first of ASCII, UTF-8, ISO-8859-1 that fits all.
        """
        if self._encoding is None:
            self._encoding = "ascii"
            for encoding in ("ascii", "utf-8", "iso-8859-1"):
                try:
                    for name, value in self._list:
                        name.decode(encoding)
                        value.decode(encoding)
                except UnicodeDecodeError:
                    continue
                self._encoding = encoding
                break
        return self._encoding

    @encoding.setter
    def encoding(self, value: str) -> None:
        self._encoding = value

    @property
    def raw(self) -> RawHeaders:
        """The fields as pairs of bytes, in order, with the spelling they have on the wire."""
        return list(self._list)

    def _items(self) -> dict[str, str]:
        encoding = self.encoding
        merged: dict[str, str] = {}
        for raw_name, raw_value in self._list:
            name, value = raw_name.lower().decode(encoding), raw_value.decode(encoding)
            merged[name] = f"{merged[name]}, {value}" if name in merged else value
        return merged

    def keys(self) -> KeysView[str]:
        """The names, in lower case."""
        return self._items().keys()

    def values(self) -> ValuesView[str]:
        """The values, those of repeated fields joined by ``", "``."""
        return self._items().values()

    def items(self) -> ItemsView[str, str]:
        """The fields, repeated ones joined by ``", "``."""
        return self._items().items()

    def multi_items(self) -> list[tuple[str, str]]:
        """Every field by itself, in order."""
        encoding = self.encoding
        return [(name.lower().decode(encoding), value.decode(encoding)) for name, value in self._list]

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of the field, `default` when there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def get_list(self, key: str, split_commas: bool = False) -> list[str]:
        """The values of each field of this name; with `split_commas`, cut at their commas as well."""
        wanted = self._key(key)
        encoding = self.encoding
        values = [value.decode(encoding) for name, value in self._list if name.lower() == wanted]
        if not split_commas:
            return values
        return [part.strip() for value in values for part in value.split(",")]

    def update(self, headers: HeaderTypes | None = None) -> None:  # type: ignore[override]
        """Replace each named field by those of `headers`."""
        added = Headers(headers, self._encoding)._list
        names = {name.lower() for name, _ in added}
        self._list[:] = [(name, value) for name, value in self._list if name.lower() not in names] + added
        self._reconsider_encoding()

    def copy(self) -> Headers:
        """A copy that can be changed by itself."""
        return Headers(self, self._encoding)

    def _key(self, key: str | bytes) -> bytes:
        if isinstance(key, bytes):
            return key.lower()
        try:
            return key.lower().encode(self._encoding or "ascii")
        except UnicodeEncodeError:
            return key.lower().encode()

    def _reconsider_encoding(self) -> None:
        if self._encoding == "ascii":
            self._encoding = None

    def _first(self, wanted: bytes) -> bytes | None:
        """The value of the first field of this lower-case name."""
        for name, value in self._list:
            if len(name) == len(wanted) and name.lower() == wanted:
                return value
        return None

    def __getitem__(self, key: str) -> str:
        wanted = self._key(key)
        found = [value for name, value in self._list if len(name) == len(wanted) and name.lower() == wanted]
        if not found:
            raise KeyError(key)
        encoding = self.encoding
        return ", ".join([value.decode(encoding) for value in found])

    def __setitem__(self, key: str, value: str) -> None:
        field = (
            _encode(key, self._encoding or "utf-8", "names"),
            _encode(value, self._encoding or "utf-8", "values"),
        )
        wanted = field[0].lower()
        places = [at for at, (name, _) in enumerate(self._list) if name.lower() == wanted]
        for at in reversed(places[1:]):
            del self._list[at]
        if places:
            self._list[places[0]] = field
        else:
            self._list.append(field)
        self._reconsider_encoding()

    def __delitem__(self, key: str) -> None:
        wanted = self._key(key)
        kept = [(name, value) for name, value in self._list if name.lower() != wanted]
        if len(kept) == len(self._list):
            raise KeyError(key)
        self._list[:] = kept

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (str, bytes)) and self._first(self._key(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        """How many fields there are, repeated ones counted each time."""
        return len(self._list)

    def __eq__(self, other: object) -> bool:
        try:
            theirs = Headers(other)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
        ours = sorted((name.lower(), value) for name, value in self._list)
        return ours == sorted((name.lower(), value) for name, value in theirs._list)

    def __repr__(self) -> str:
        encoding = self.encoding
        shown = [
            (name.lower().decode(encoding), "[secure]" if name.lower() in _SECRET else value.decode(encoding))
            for name, value in self._list
        ]
        suffix = "" if encoding == "ascii" else f", encoding={encoding!r}"
        as_dict = dict(shown)
        body = as_dict if len(as_dict) == len(shown) else shown
        return f"{type(self).__name__}({body!r}{suffix})"


def parse_links(header: str) -> list[dict[str, str]]:
    """The links of a Link header (RFC 8288), each as a dict of its URL and parameters."""
    links = []
    for part in re.split(r",\s*<", header.strip(" ,")):
        url, _, parameters = part.partition(";")
        link = {"url": url.strip("<> '\"")}
        for parameter in parameters.split(";"):
            name, equals, value = parameter.partition("=")
            if equals:
                link[name.strip(" '\"")] = value.strip(" '\"")
        links.append(link)
    return links
