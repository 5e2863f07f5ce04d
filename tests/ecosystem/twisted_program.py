"""A Twisted program on our loop: its reactor is there once per process, so the test runs this in one of its own."""

from __future__ import annotations

import asyncio
import sys
from io import BytesIO
from typing import Any

from twisted.internet import asyncioreactor

import aioxide

loop = aioxide.new_event_loop()
asyncioreactor.install(loop)

from twisted.internet import defer, endpoints, protocol, reactor, task, threads, utils  # noqa: E402
from twisted.protocols import basic  # noqa: E402
from twisted.web import client, resource, server  # noqa: E402
from twisted.web.http_headers import Headers  # noqa: E402


class Echo(basic.LineReceiver):
    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line[::-1])


class Asking(basic.LineReceiver):
    def __init__(self, lines: list[bytes]) -> None:
        self.lines, self.answers, self.done = lines, list[bytes](), defer.Deferred[list[bytes]]()

    def connectionMade(self) -> None:
        for line in self.lines:
            self.sendLine(line)

    def lineReceived(self, line: bytes) -> None:
        self.answers.append(line)
        if len(self.answers) == len(self.lines):
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self.answers)


async def tcp(folder: str) -> None:
    for description, connect in (
        ("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{}"),
        (f"unix:{folder}/socket", f"unix:{folder}/socket"),
    ):
        listening = await endpoints.serverFromString(reactor, description).listen(protocol.Factory.forProtocol(Echo))
        target = endpoints.clientFromString(reactor, connect.format(getattr(listening.getHost(), "port", "")))

        async def talk(number: int, target: Any = target) -> None:
            lines = [b"%d/%d " % (number, turn) * turn for turn in range(1, 60)]
            asking = await endpoints.connectProtocol(target, Asking(lines))
            assert await asking.done == [line[::-1] for line in lines]

        await defer.gatherResults([defer.ensureDeferred(talk(number)) for number in range(20)], consumeErrors=True)
        await defer.maybeDeferred(listening.stopListening)


class Datagrams(protocol.DatagramProtocol):
    def __init__(self) -> None:
        self.got: dict[bytes, Any] = {}
        self.enough: defer.Deferred[None] = defer.Deferred()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.got[datagram] = addr
        if len(self.got) == 50:
            self.enough.callback(None)


async def udp() -> None:
    receiver, sender = Datagrams(), Datagrams()
    listening = reactor.listenUDP(0, receiver, interface="127.0.0.1")
    sending = reactor.listenUDP(0, sender, interface="127.0.0.1")
    for number in range(50):
        sender.transport.write(b"%d" % number, ("127.0.0.1", listening.getHost().port))
    await receiver.enough
    assert set(receiver.got) == {b"%d" % number for number in range(50)}
    await defer.gatherResults([defer.maybeDeferred(port.stopListening) for port in (listening, sending)])


class Page(resource.Resource):
    isLeaf = True

    def render_POST(self, request: Any) -> Any:
        body = request.content.read()
        reactor.callLater(0.01, lambda: (request.write(body.upper()), request.finish()))
        return server.NOT_DONE_YET


async def http() -> None:
    listening = reactor.listenTCP(0, server.Site(Page()), interface="127.0.0.1")
    pool = client.HTTPConnectionPool(reactor)
    agent = client.Agent(reactor, pool=pool)
    url = b"http://127.0.0.1:%d/" % listening.getHost().port

    async def post(number: int) -> None:
        body = b"request %d " % number * number * 50
        answer = await agent.request(b"POST", url, Headers({"x": ["y"]}), client.FileBodyProducer(BytesIO(body)))
        assert answer.code == 200 and await client.readBody(answer) == body.upper()

    await defer.gatherResults([defer.ensureDeferred(post(number)) for number in range(50)], consumeErrors=True)
    await pool.closeCachedConnections()
    await defer.maybeDeferred(listening.stopListening)


async def asyncio_too() -> None:
    """asyncio's own awaitables in a Twisted program, and Deferreds in an asyncio task."""

    async def native(number: int) -> int:
        assert isinstance(asyncio.get_running_loop(), aioxide.EventLoop)
        await asyncio.sleep(0.01)
        return number + await task.deferLater(reactor, 0.01, lambda: 1).asFuture(loop)

    results = await defer.Deferred.fromFuture(asyncio.gather(*map(native, range(100)), return_exceptions=False))
    assert results == list(range(1, 101))


async def main(folder: str) -> None:
    ticks: list[int] = []
    ticking = task.LoopingCall(lambda: ticks.append(len(ticks)))
    running = ticking.start(0.01)
    await tcp(folder)
    await udp()
    await http()
    await asyncio_too()
    in_threads = [threads.deferToThread(pow, 2, number) for number in range(50)]
    assert await defer.gatherResults(in_threads) == [2**number for number in range(50)]
    outputs = [utils.getProcessOutput("/bin/sh", ("-c", f"echo {number}")) for number in range(5)]
    assert await defer.gatherResults(outputs) == [b"%d\n" % number for number in range(5)]
    cancelled = reactor.callLater(0, lambda: sys.exit("a cancelled call ran"))
    cancelled.cancel()
    ticking.stop()
    await running
    assert len(ticks) > 3
    print("all done")


def ended(result: Any) -> None:
    reactor.stop()
    if result is not None:
        result.printTraceback()


reactor.callWhenRunning(lambda: defer.ensureDeferred(main(sys.argv[1])).addBoth(ended))
reactor.run()
loop.close()
