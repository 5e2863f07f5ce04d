"""The rows of the benchmark: what each contender is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bench.contenders import BLOCKING_CLIENTS, CLIENTS, FLOOR, LOOPS, TLS_LOOPS

Kind = Literal["server", "memory", "loop", "client"]
Protocol = Literal["tcp", "unix", "udp", "tls", "connections", "handshakes", "resumptions", "http"]

KIB = 1024
SERVER_CONTENDERS = (*LOOPS, FLOOR)


@dataclass(frozen=True)
class Row:
    """One row: a job that every contender does.

    A ``server`` row runs a server that the load generator, another process, keeps busy; a ``memory`` row runs one, and
    asks what its idle connections take; a ``loop`` row runs a job within one process; a ``client`` row asks an HTTP
    server, another process.
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
    contenders: tuple[str, ...] = tuple(LOOPS)
    # How many times what we use uvloop shall use, at least.
    target: float | None = None


def echo(job: str, title: str, connections: int, kib_each: int, target: float | None = None) -> Row:
    return Row(
        f"tcp-{job}-{kib_each}k-{connections}",
        f"{title}, {kib_each:,} KiB × {connections:,}",
        "round trip",
        "server",
        job,
        connections,
        kib_each * KIB,
        contenders=SERVER_CONTENDERS,
        target=target,
    )


def tls_echo(job: str, title: str, connections: int, kib_each: int, target: float | None = None) -> Row:
    row = echo(job, title, connections, kib_each, target)
    name = row.name.replace("tcp-tls-", "tls-")
    return replace(row, name=name, contenders=(*TLS_LOOPS, FLOOR), protocol="tls")


def visits(name: str, title: str, job: str, protocol: Protocol, target: float | None = None) -> Row:
    """A connection for each byte there and back, one after the other."""
    contenders = (*TLS_LOOPS, FLOOR) if job.startswith("tls-") else SERVER_CONTENDERS
    return Row(name, title, "connection", "server", job, 1, 1, protocol=protocol, contenders=contenders, target=target)


def http_server(job: str, title: str, target: float | None = None) -> Row:
    return Row(
        f"http-{job}-10",
        f"HTTP, {title}, 1 KiB × 10",
        "request",
        "server",
        job,
        10,
        KIB,
        protocol="http",
        contenders=SERVER_CONTENDERS,
        target=target,
    )


def loop(name: str, title: str, operation: str, operations: int, target: float | None = None) -> Row:
    return Row(name, title, operation, "loop", name, operations=operations, target=target)


def http_get(kib_each: int, at_once: int, *, secure: bool = False) -> Row:
    # What takes seconds for a hundred requests at once, nobody waits for with a thousand.
    slow = ("httpx", "httpx2", "niquests") if at_once > 100 else ()
    scheme = "https" if secure else "http"
    return Row(
        f"{scheme}_get-{kib_each}k-{at_once}",
        f"{scheme.upper()} GET, {kib_each:,} KiB, {at_once:,} at a time",
        "request",
        "client",
        "http_get",
        connections=at_once,
        bytes_each=kib_each * KIB,
        protocol="tls" if secure else "tcp",
        operations=max(at_once, 100),
        contenders=tuple(name for name in CLIENTS if name not in slow),
    )


def http_get_sync(kib_each: int, *, secure: bool = False) -> Row:
    row = http_get(kib_each, 1, secure=secure)
    name = row.name.replace("_get-", "_get_sync-").removesuffix("-1")
    return replace(
        row, name=name, title=f"blocking {row.title}", job="http_get_sync", contenders=tuple(BLOCKING_CLIENTS)
    )


ROWS: tuple[Row, ...] = (
    echo("protocol", "TCP echo, protocol", 1, 1),
    echo("protocol", "TCP echo, protocol", 10, 1, target=1.2),
    echo("protocol", "TCP echo, protocol", 100, 1, target=1.2),
    echo("protocol", "TCP echo, protocol", 1000, 1, target=1.2),
    echo("protocol", "TCP echo, protocol", 10, 64, target=1.7),
    echo("protocol", "TCP echo, protocol", 10, 256, target=1.7),
    echo("protocol", "TCP bulk, protocol", 1, 1024, target=1.5),
    echo("buffered", "TCP echo, buffered protocol", 10, 1, target=1.8),
    echo("buffered", "TCP echo, buffered protocol", 100, 1, target=1.8),
    echo("streams", "TCP echo, streams", 10, 1, target=2.0),
    echo("streams", "TCP echo, streams", 100, 1, target=2.0),
    echo("streams", "TCP echo, streams", 1000, 1, target=2.0),
    echo("sock", "TCP echo, sock_recv, sock_sendall", 10, 1, target=5.0),
    echo("sock", "TCP echo, sock_recv, sock_sendall", 100, 1, target=5.0),
    visits("tcp-connect", "TCP connections, a byte there and back each", "protocol", "connections", target=1.3),
    replace(
        echo("protocol", "TCP, memory of a connection", 10_000, 1),
        name="tcp-idle-10000",
        operation="connection",
        kind="memory",
        target=1 / 0.6,
    ),
    replace(echo("unix", "unix echo, protocol", 10, 1, target=1.4), name="unix-protocol-1k-10", protocol="unix"),
    replace(echo("udp", "UDP echo, datagram protocol", 10, 1, target=2.0), name="udp-1k-10", protocol="udp"),
    tls_echo("tls-protocol", "TLS echo, protocol", 10, 1, target=2.5),
    tls_echo("tls-protocol", "TLS echo, protocol", 10, 64, target=2.0),
    tls_echo("tls-streams", "TLS echo, streams", 10, 1, target=2.0),
    tls_echo("tls-protocol", "TLS bulk, protocol", 1, 1024, target=2.0),
    visits("tls-handshakes", "TLS connections, a full handshake each", "tls-protocol", "handshakes", target=2.0),
    visits("tls-resumptions", "TLS connections, each resuming a session", "tls-protocol", "resumptions", target=2.0),
    http_server("uvicorn", "uvicorn with httptools", target=1.2),
    http_server("aiohttp", "aiohttp"),
    http_server("tornado", "Tornado"),
    loop("call_soon", "call_soon, 100 chains of callbacks", "callback", 50_000, target=2.0),
    loop("call_later", "call_later, delays of 0 to 2 ms", "timer", 20_000, target=2.0),
    loop("timer_cancel", "call_later and cancel, 10,000 others pending", "timer", 50_000, target=4.0),
    loop("sleep0", "await sleep(0)", "sleep", 50_000, target=1.8),
    loop("gather", "gather of 100 tasks", "task", 20_000, target=2.0),
    loop("queue", "two tasks and two queues, to and fro", "round trip", 10_000, target=1.5),
    loop("threadsafe", "call_soon_threadsafe from another thread", "callback", 20_000, target=1.5),
    loop("executor", "run_in_executor, one at a time", "call", 2_000, target=1.3),
    loop("subprocess", "create_subprocess_exec and wait", "program", 100, target=5.0),
    loop("subprocess_pipe", "create_subprocess_exec, output by a pipe", "program", 100, target=5.0),
    loop("start_and_stop", "a new loop, run and closed", "loop", 200),
    http_get(1, 1),
    http_get(1, 16),
    http_get(1, 100),
    http_get(1, 1000),
    http_get(1024, 16),
    http_get(1, 1, secure=True),
    http_get(1, 16, secure=True),
    http_get(1, 100, secure=True),
    http_get(1, 1000, secure=True),
    http_get(1024, 16, secure=True),
    http_get_sync(1),
    http_get_sync(1, secure=True),
    http_get_sync(1024),
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
