"""Python source as HTML, with its keywords, strings, comments and decorators marked."""

from __future__ import annotations

import io
import keyword
import tokenize
from html import escape

__all__ = ["highlighted"]


def highlighted(source: str) -> str:
    """HTML of a program's text; raises `SyntaxError` or `tokenize.TokenError` when it is no Python.

    >>> highlighted("return 'a'  # b")
    '<span class="k">return</span> <span class="s">&#x27;a&#x27;</span>  <span class="c"># b</span>'
    """
    lines = source.splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    html, done, decorator_line = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.OP and token.string == "@" and not token.line[: token.start[1]].strip():
            decorator_line = token.start[0]
        style = _style(token, decorator_line)
        if style is None:
            continue
        start = offsets[token.start[0] - 1] + token.start[1]
        end = offsets[token.end[0] - 1] + token.end[1]
        html += escape(source[done:start]) + f'<span class="{style}">{escape(source[start:end])}</span>'
        done = end
    return (html + escape(source[done:])).rstrip("\n")


def _style(token: tokenize.TokenInfo, decorator_line: int) -> str | None:
    if token.type == tokenize.COMMENT:
        return "c"
    # From Python 3.12 on a formatted string is several tokens; its fixed parts look like other strings.
    if token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith(("FSTRING_", "TSTRING_")):
        return "s"
    if token.type in (tokenize.NAME, tokenize.OP) and token.start[0] == decorator_line:
        return "d" if token.type == tokenize.NAME or token.string in "@." else None
    if token.type == tokenize.NAME and keyword.iskeyword(token.string):
        return "k"
    return None
