"""Examples in docstrings are shown as code: Griffe, which reads them, hands them on as they are."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class FencedDoctests(Extension):
    """Puts a fence around each example."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Griffe calls it with everything that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with a fence around each block that begins with a prompt, up to the next empty line."""
    lines: list[str] = []
    is_inside = False
    for line in [*text.splitlines(), ""]:
        if not is_inside and line.lstrip().startswith(">>> "):
            is_inside = True
            lines.append(line[: len(line) - len(line.lstrip())] + "```pycon")
        elif is_inside and not line.strip():
            is_inside = False
            lines.append("```")
        lines.append(line)
    return "\n".join(lines).rstrip("\n")
