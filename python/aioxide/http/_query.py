"""QueryParams: the immutable multi-dict of a URL's query."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Union

from ._quoting import parse_form, quote_form

PrimitiveData = str | int | float | bool | None
QueryParamTypes = Union[
    "QueryParams",
    Mapping[str, PrimitiveData | Sequence[PrimitiveData]],
    Sequence[tuple[str, PrimitiveData]],
    str,
    bytes,
]


def primitive_to_str(value: PrimitiveData) -> str:
    """How a plain value is written in a query or a form.

    ``true``, ``false``, the empty string for None, else ``str``.
    """
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return ""
    return str(value)


def encode_form(pairs: list[tuple[str, str]]) -> str:
    """``application/x-www-form-urlencoded``, the form of queries and of simple forms."""
    return "&".join([f"{quote_form(name)}={quote_form(value)}" for name, value in pairs])


class QueryParams(Mapping[str, str]):
    """The parameters of a query. A name may have several values; the object never changes, edits give a new one.

    Made from a query string, a mapping (values may be lists), a list of pairs, or keyword arguments.

    >>> params = QueryParams({"q": "async await", "page": 2})
    >>> str(params)
    'q=async+await&page=2'
    >>> params.add("page", 3).get_list("page")
    ['2', '3']
    """

    __slots__ = ("_dict",)

    def __init__(self, *args: QueryParamTypes | None, **kwargs: Any) -> None:
        if len(args) > 1 or (args and kwargs):
            raise TypeError("QueryParams takes one positional argument, or keyword arguments, not both")
        value: Any = args[0] if args else kwargs
        self._dict: dict[str, list[str]] = {}
        if value is None:
            return
        if isinstance(value, bytes):
            value = value.decode("ascii")
        if isinstance(value, str):
            for name, text in parse_form(value):
                self._dict.setdefault(name, []).append(text)
        elif isinstance(value, QueryParams):
            self._dict = {name: list(values) for name, values in value._dict.items()}
        elif isinstance(value, Mapping):
            for name, item in value.items():
                items = item if isinstance(item, (list, tuple)) else [item]
                self._dict[str(name)] = [primitive_to_str(each) for each in items]
        else:
            for name, item in value:
                self._dict.setdefault(str(name), []).append(primitive_to_str(item))

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._dict.keys()

    def values(self) -> ValuesView[str]:
        """The first value of each name."""
        return {name: values[0] for name, values in self._dict.items() if values}.values()

    def items(self) -> ItemsView[str, str]:
        """Each name with its first value; ``multi_items`` has all of them."""
        return {name: values[0] for name, values in self._dict.items() if values}.items()

    def multi_items(self) -> list[tuple[str, str]]:
        """Every pair, in order, names with several values as often as they have values."""
        return [(name, value) for name, values in self._dict.items() for value in values]

    def get(self, key: Any, default: Any = None) -> Any:
        """The first value of the name, `default` when there is none."""
        values = self._dict.get(str(key))
        return values[0] if values else default

    def get_list(self, key: str) -> list[str]:
        """All values of the name, an empty list when there is none."""
        return list(self._dict.get(str(key), []))

    def set(self, key: str, value: Any = None) -> QueryParams:
        """A copy in which the name has this one value."""
        copy = QueryParams(self)
        copy._dict[str(key)] = [primitive_to_str(value)]
        return copy

    def add(self, key: str, value: Any = None) -> QueryParams:
        """A copy in which the name has this value after those it had."""
        copy = QueryParams(self)
        copy._dict.setdefault(str(key), []).append(primitive_to_str(value))
        return copy

    def remove(self, key: str) -> QueryParams:
        """A copy without the name."""
        copy = QueryParams(self)
        copy._dict.pop(str(key), None)
        return copy

    def merge(self, params: QueryParamTypes | None = None) -> QueryParams:
        """A copy with the names of `params` added; names in both take the values of `params`."""
        copy = QueryParams(params)
        copy._dict = {**{k: list(v) for k, v in self._dict.items()}, **copy._dict}
        return copy

    def __getitem__(self, key: str) -> str:
        return self._dict[key][0]

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __bool__(self) -> bool:
        return bool(self._dict)

    def __hash__(self) -> int:
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryParams):
            return NotImplemented
        return sorted(self.multi_items()) == sorted(other.multi_items())

    def __str__(self) -> str:
        return encode_form(self.multi_items())

    def __repr__(self) -> str:
        return f"QueryParams({str(self)!r})"

    def update(self, params: QueryParamTypes | None = None) -> None:
        """Refused: the object is immutable."""
        raise RuntimeError("QueryParams never change: use merge(...), which gives a new object")

    def __setitem__(self, key: str, value: str) -> None:
        raise RuntimeError("QueryParams never change: use set(name, value), which gives a new object")
