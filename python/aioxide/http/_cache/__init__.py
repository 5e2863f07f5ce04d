"""The client's cache of responses (RFC 9111).

A request's way through it, file by file:

    steps      what a client does for an exchange, in blocking code and on a loop
    exchange   one request: found, revalidated, shared with others, or sent; does no input or output itself
    flights    equal requests that are under way become one
    bodies     a body is kept as it is read
    stores     where responses are kept: `MemoryCacheStore`; `sqlite` has the other
    cache      `Cache`, which holds these together

The rules, when a response may be used again, are the engine's (``aioxide._native.CachePolicy``).
"""

from __future__ import annotations
