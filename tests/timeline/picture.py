"""Reads a recording back as a script would tell it."""

from __future__ import annotations

from typing import Any

from aioxide import timeline


class Picture:
    """A recording, by lanes' names."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.names: list[str] = data["names"]
        self.lanes = {lane["id"]: lane for lane in data["lanes"]}

    @classmethod
    def of(cls, recording: timeline.Recording) -> Picture:
        return cls(recording.to_dict())

    def lane(self, name: str) -> dict[str, Any]:
        (found,) = [lane for lane in self.data["lanes"] if lane["name"] == name]
        return found

    def slices(self, name: str) -> list[tuple[str, str]]:
        """The (state, name) of the lane's slices, in time."""
        lane = self.lane(name)["id"]
        return [(state, self.names[what]) for which, _, _, what, state in self.data["slices"] if which == lane]

    def spans(self, name: str, state: str) -> list[tuple[int, int]]:
        lane = self.lane(name)["id"]
        return [(start, end) for which, start, end, _, kind in self.data["slices"] if which == lane and kind == state]

    def wakes(self) -> list[tuple[str, str]]:
        """Who woke whom, in time, by lanes' names."""
        called = {number: lane["name"] for number, lane in self.lanes.items()}
        return [(called[source], called[target]) for _, source, target, _ in self.data["wakes"]]
