"""A loop's numbers, and what collects them."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

import aioxide
from aioxide import timeline


def test_numbers_are_those_of_what_happened() -> None:
    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        time.sleep(0.05)
        timer = loop.call_later(100, print)
        numbers = loop.statistics()  # type: ignore[attr-defined]
        timer.cancel()
        return numbers

    numbers = aioxide.run(main())
    assert numbers["callbacks"] >= 100 and numbers["timers"] >= 1 and numbers["timers_fired"] == 1
    assert numbers["waits"] >= 1 and numbers["polls"] >= numbers["waits"]
    assert 0.09 < numbers["running_s"] < 10
    assert 0.04 < numbers["waiting_s"] < numbers["running_s"] - 0.04
    assert 0.1 < numbers["busy_share"] < 0.95
    assert numbers["callback_count"] >= 100
    assert numbers["callback_p50_s"] < 0.01
    assert numbers["callback_buckets"][-1][1] == numbers["callback_count"]


def test_lag_is_how_long_what_is_ready_may_wait() -> None:
    async def main() -> dict[str, Any]:
        for _ in range(4):
            time.sleep(0.03)
            await asyncio.sleep(0.001)
        return asyncio.get_running_loop().statistics()  # type: ignore[attr-defined]

    numbers = aioxide.run(main())
    assert 0.03 <= numbers["lag_max_s"] < 1
    assert 0.03 <= numbers["lag_p90_s"] <= numbers["lag_max_s"]


def test_bytes_are_counted() -> None:
    async def main() -> dict[str, Any]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(50_000))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(bytes(50_000))
            await reader.readexactly(50_000)
            writer.close()
            await writer.wait_closed()
        return asyncio.get_running_loop().statistics()  # type: ignore[attr-defined]

    numbers = aioxide.run(main())
    assert numbers["bytes_received"] == numbers["bytes_sent"] == 100_000
    assert numbers["events"] >= 2


def test_closed_sockets_are_not_counted_as_watched() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.statistics()["descriptors"]  # type: ignore[attr-defined]
        pairs = [socket.socketpair() for _ in range(10)]
        for one, other in pairs:
            one.setblocking(False)
            loop.call_later(0.001, other.send, b"x")
            await loop.sock_recv(one, 1)
        assert loop.statistics()["descriptors"] == before + 10  # type: ignore[attr-defined]
        for one, other in pairs:
            one.close()
            other.close()
        assert loop.statistics()["descriptors"] == before  # type: ignore[attr-defined]

    aioxide.run(main())


def test_prometheus() -> None:
    async def main() -> str:
        await asyncio.sleep(0.01)
        return timeline.prometheus()

    lines = aioxide.run(main()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["aioxide_loop_callbacks_total"]) > 0
    assert 0 < float(values["aioxide_loop_busy_share"]) < 1
    buckets = [int(value) for name, value in values.items() if name.startswith("aioxide_loop_lag_seconds_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == int(values["aioxide_loop_lag_seconds_count"])
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds)) == 20
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeline.prometheus()
    with pytest.raises(TypeError, match="no aioxide loop"):
        asyncio.run(wrong())


async def wrong() -> None:
    timeline.prometheus()


def test_opentelemetry() -> None:
    pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    def collected() -> dict[str, Any]:
        data = reader.get_metrics_data()
        if data is None:
            return {}
        metrics = [
            each for resource in data.resource_metrics for scope in resource.scope_metrics for each in scope.metrics
        ]
        return {each.name: each.data.data_points for each in metrics}

    async def main() -> dict[str, Any]:
        timeline.instrument(meter=provider.get_meter("test"))
        await asyncio.sleep(0.01)
        return collected()

    points = aioxide.run(main())
    assert points["aioxide.loop.callbacks"][0].value > 0
    assert {point.attributes["percentile"] for point in points["aioxide.loop.lag"]} == {"p50", "p90", "p99", "max"}
    assert not any(collected().values()), "a closed loop is observed no more"
    provider.shutdown()
