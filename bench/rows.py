"""The rows of the benchmark: what each contender is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from bench.contenders import CLIENTS, FLOOR, LOOPS, TLS_LOOPS

Kind = Literal["server", "loop", "client"]
Protocol = Literal["tcp", "udp", "tls", "handshakes", "resumptions"]


@dataclass(frozen=True)
class Row:
    """One row: a job that every contender does.

    A ``server`` row runs an echo server that the load generator, another process, keeps busy; a ``loop`` row runs a
    job within one process; a ``client`` row asks an HTTP server, another process.
    """

    name: str
    title: str
    operation: str
    kind: Kind
    job: str
    connections: int = 0
    bytes_each: int = 0
    # What the load generator's messages go over.
    protocol: Protocol = "tcp"
    # A first guess at how many operations fill a round; the harness adjusts it for each contender.
    operations: int = 1000
    contenders: tuple[str, ...] = field(default=tuple(LOOPS))


def echo(job: str, title: str, connections: int, bytes_each: int) -> Row:
    size = f"{bytes_each // 1024} KiB"
    plural = "connection" if connections == 1 else "connections"
    name = f"tcp-{job}-{bytes_each // 1024}k-{connections}"
    return Row(name, f"{title}, {size} × {connections} {plural}", "round trip", "server", job, connections, bytes_each)


TLS_CONTENDERS = (*TLS_LOOPS, FLOOR)


def tls_echo(job: str, title: str, connections: int, bytes_each: int) -> Row:
    row = echo(job, title, connections, bytes_each)
    name = row.name.replace("tcp-tls-", "tls-")
    return replace(row, name=name, contenders=TLS_CONTENDERS, protocol="tls")


def handshakes(kind: Protocol, title: str) -> Row:
    name = f"tls-{kind}"
    return Row(name, title, "connection", "server", "tls-protocol", 1, 1, protocol=kind, contenders=TLS_CONTENDERS)


ROWS: tuple[Row, ...] = (
    echo("protocol", "TCP echo, protocol", 1, 1024),
    echo("protocol", "TCP echo, protocol", 10, 1024),
    echo("protocol", "TCP echo, protocol", 100, 1024),
    echo("protocol", "TCP echo, protocol", 10, 64 * 1024),
    echo("streams", "TCP echo, streams", 10, 1024),
    echo("streams", "TCP echo, streams", 100, 1024),
    echo("sock", "TCP echo, sock_recv and sock_sendall", 10, 1024),
    echo("sock", "TCP echo, sock_recv and sock_sendall", 100, 1024),
    Row(
        "udp-1k-10",
        "UDP echo, datagram protocol, 1 KiB × 10 peers",
        "round trip",
        "server",
        "udp",
        connections=10,
        bytes_each=1024,
        protocol="udp",
    ),
    tls_echo("tls-protocol", "TLS echo, protocol", 10, 1024),
    tls_echo("tls-protocol", "TLS echo, protocol", 10, 64 * 1024),
    tls_echo("tls-streams", "TLS echo, streams", 10, 1024),
    tls_echo("tls-protocol", "TLS bulk (op/s is MiB/s each way), protocol", 1, 1024 * 1024),
    handshakes("handshakes", "TLS connections, a full handshake each"),
    handshakes("resumptions", "TLS connections, each resuming a session"),
    Row("call_soon", "call_soon, 100 chains of callbacks", "callback", "loop", "call_soon", operations=50_000),
    Row("call_later", "call_later, delays of 0 to 2 ms", "timer", "loop", "call_later", operations=20_000),
    Row(
        "timer_cancel",
        "call_later and cancel, 10,000 others pending",
        "timer",
        "loop",
        "timer_cancel",
        operations=50_000,
    ),
    Row("sleep0", "await sleep(0)", "sleep", "loop", "sleep0", operations=50_000),
    Row("gather", "gather of 100 tasks", "task", "loop", "gather", operations=20_000),
    Row("threadsafe", "call_soon_threadsafe from another thread", "callback", "loop", "threadsafe", operations=20_000),
    Row(
        "http_get",
        "HTTP GET, 1 KiB, 100 at a time",
        "request",
        "client",
        "http_get",
        connections=100,
        bytes_each=1024,
        operations=500,
        contenders=tuple(CLIENTS),
    ),
)


def select(names: list[str]) -> list[Row]:
    """The rows whose names contain one of the words; all of them where there is no word.

    Raises:
        ValueError: a word is in no row's name.
    """
    for word in names:
        if not any(word in row.name for row in ROWS):
            raise ValueError(f"no row has {word!r} in its name; the rows are: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not names or any(word in row.name for word in names)]
