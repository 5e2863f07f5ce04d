"""Two transports against a model: whatever is done to them, in whatever order, the bytes and the callbacks add up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.loop.support import LoopFactory, Recorder, connected, failures, name_of

ends = st.sampled_from([0, 1])
sizes = st.sampled_from([0, 1, 7, 4095, 4096, 4097, 70_000, 400_000])
kinds = st.sampled_from([bytes, bytearray, memoryview])


class End(Recorder):
    """One end of the connection, with what the model knows of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ended = False

    def eof_received(self) -> bool:
        super().eof_received()
        return True


class Transports(RuleBasedStateMachine):
    """Runs on the loops of `factory`."""

    factory: Callable[[], asyncio.AbstractEventLoop]
    # asyncio tells of the end again when reading is resumed.
    strict: bool
    # asyncio's writelines() trips over a connection that is lost, in Python 3.12 and 3.13.
    lines_after_loss: bool

    def __init__(self) -> None:
        super().__init__()
        self.loop = type(self).factory()
        self.watch = failures(self.loop)
        self.failures = self.watch.__enter__()
        self.written = 0
        self.torn = False

    @initialize()
    def connect(self) -> None:
        made = self.loop.run_until_complete(connected(End, End))
        self.transports: list[Any] = [made[0], made[2]]
        self.protocols: list[Any] = [made[1], made[3]]

    def on_loop(self, call: Callable[[], Any]) -> None:
        """Make a call from inside the run, as all calls are made."""

        async def body() -> None:
            call()

        self.loop.run_until_complete(body())

    def piece(self, size: int) -> bytes:
        self.written += 1
        return (b"%d," % self.written * (size // 2 + 1))[:size]

    @rule(end=ends, size=sizes, kind=kinds)
    def write(self, end: int, size: int, kind: Any) -> None:
        if not self.protocols[end].ended:
            piece = self.piece(size)
            self.on_loop(lambda: self.transports[end].write(kind(piece)))
            self.protocols[end].sent += piece

    @rule(end=ends, pieces=st.lists(sizes, max_size=4))
    def writelines(self, end: int, pieces: list[int]) -> None:
        if not self.protocols[end].ended and (type(self).lines_after_loss or not self.torn):
            data = [self.piece(size) for size in pieces]
            self.on_loop(lambda: self.transports[end].writelines(data))
            self.protocols[end].sent += b"".join(data)

    @rule(end=ends)
    def write_eof(self, end: int) -> None:
        def call() -> None:
            try:
                self.transports[end].write_eof()
            except OSError:
                assert self.torn  # the peer is gone already

        self.on_loop(call)
        self.protocols[end].ended = True

    @rule(end=ends)
    def pause(self, end: int) -> None:
        self.on_loop(self.transports[end].pause_reading)
        assert not self.transports[end].is_reading()

    @rule(end=ends)
    def resume(self, end: int) -> None:
        self.on_loop(self.transports[end].resume_reading)

    @rule(end=ends, high=st.sampled_from([0, 1, 1000, 65536, 1_000_000]))
    def limit(self, end: int, high: int) -> None:
        self.on_loop(lambda: self.transports[end].set_write_buffer_limits(high))

    @rule(end=ends, how=st.sampled_from(["close", "abort"]))
    def tear(self, end: int, how: str) -> None:
        protocol, transport = self.protocols[end], self.transports[end]
        if "connection_lost" not in protocol.calls:
            self.on_loop(getattr(transport, how))
        protocol.ended = True
        self.torn = True
        assert transport.is_closing()

    @rule(count=st.integers(1, 5))
    def turn(self, count: int) -> None:
        for _ in range(count):
            self.loop.run_until_complete(asyncio.sleep(0))

    @invariant()
    def bytes_arrive_in_order(self) -> None:
        for end in (0, 1) if hasattr(self, "protocols") else ():
            received, sent = self.protocols[end].data, self.protocols[1 - end].sent
            assert sent[: len(received)] == received

    @invariant()
    def callbacks_come_in_order(self) -> None:
        for protocol in getattr(self, "protocols", ()):
            calls = protocol.calls
            assert calls[0] == "connection_made"
            assert calls.count("connection_made") == 1
            if type(self).strict:
                assert calls.count("eof_received") <= 1
            assert "connection_lost" not in calls[:-1]
            if "eof_received" in calls:
                assert "data_received" not in calls[calls.index("eof_received") :]
            flow = [name for name in calls if name.endswith("_writing")]
            assert flow == ["pause_writing", "resume_writing"] * (len(flow) // 2) + ["pause_writing"] * (len(flow) % 2)
        assert self.failures == []

    @invariant()
    def buffers_are_what_flow_control_says(self) -> None:
        for transport, protocol in zip(getattr(self, "transports", ()), getattr(self, "protocols", ()), strict=True):
            if not transport.is_closing() and "pause_writing" not in protocol.calls:
                assert transport.get_write_buffer_size() <= max(
                    transport.get_write_buffer_limits()[1], 65536, 1_000_000
                )

    def teardown(self) -> None:
        if hasattr(self, "protocols"):
            self.loop.run_until_complete(asyncio.wait_for(self.finish(), 20))
            self.bytes_arrive_in_order()
            self.callbacks_come_in_order()
            assert all("connection_lost" in protocol.calls for protocol in self.protocols)
        self.watch.__exit__(None, None, None)
        self.loop.close()

    async def finish(self) -> None:
        for transport in self.transports:
            transport.resume_reading()
        if not self.torn:
            for transport in self.transports:
                transport.write_eof()
            for end, protocol in enumerate(self.protocols):
                await protocol.until(lambda protocol=protocol: "eof_received" in protocol.calls)
                assert protocol.data == self.protocols[1 - end].sent, "every byte arrives where nobody tears the line"
        for transport in self.transports:
            transport.close()
        for transport, protocol in zip(self.transports, self.protocols, strict=True):
            try:
                await asyncio.wait_for(asyncio.shield(protocol.lost), 1)
            except TimeoutError:
                # It waits for a peer that reads no more.
                transport.abort()
                await protocol.lost


@pytest.mark.timeout(600)
def test_transports_against_a_model(loop_factory: LoopFactory, rounds: int) -> None:
    ours = name_of(loop_factory) == "aioxide"
    machine = type(
        "Transports",
        (Transports,),
        {
            "factory": staticmethod(loop_factory),
            "strict": ours,
            "lines_after_loss": ours or not (3, 12) <= sys.version_info < (3, 14),
        },
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25 * rounds,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
