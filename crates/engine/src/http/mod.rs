//! HTTP/1.1 and HTTP/2: client and a small server.
//!
//! A request's way, file by file:
//!
//! ```text
//!   client ── request ── pool ──── carrier ──── response
//!     │       (checked)  (whose   (connection,   (head, then the
//!     │                   turn)    or a stream    body as it is asked for)
//!     │                            of http2)
//!     └─ redirect: once more from the start
//!
//!   dial     how a connection is made: addresses, proxy (proxy, tunnel, socks)
//!   phases   where the request stands: deadlines, timings, its lane in the timeline
//!   chain    the pool's queues: order and removal in constant time
//!   io       a stream, TLS or not, as hyper wants to see it
//!   relay    whom a connection wakes
//!   http2    a connection that many requests share
//!   expect   a body that waits for the server's word
//!   websocket  what a connection may become instead
//!   decoder  what undoes a body's encoding, for whoever wants it undone
//!   hedge    a second try beside one that takes long
//!   cache    when a response may be used again, for whoever stores some
//!   error    what failed, with whom, in which phase
//!   server   the other end, for tests, benchmarks and examples
//! ```
//!
//! All of it are futures of one loop, in one thread. The protocol itself is hyper's.

mod cache;
mod carrier;
mod chain;
mod client;
mod connection;
mod decoder;
mod dial;
mod domain;
mod error;
mod expect;
mod hedge;
mod http2;
mod io;
mod phases;
mod pool;
mod proxy;
mod public_suffix;
mod redirect;
mod relay;
mod remote;
mod request;
mod response;
mod server;
mod server_connection;
mod server_message;
mod socks;
mod tunnel;
mod websocket;

pub use bytes::Bytes;
pub use cache::{AskedOfCache, CachePolicy, Exchanged, Field, Reuse, merged_fields, selecting_values, storable_fields};
pub use client::{Client, ClientControl, Http2Use, Settings};
pub use decoder::{DecodeError, Decoder};
pub use dial::Sockets;
pub use domain::{domain_to_ascii, domain_to_unicode};
pub use error::{Error, ErrorKind, Phase, Result};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use http_body::{Body as HttpBody, Frame as BodyFrame, SizeHint};
pub use phases::Timings;
pub use pool::Limits;
pub use proxy::Proxy;
pub use public_suffix::is_public_suffix;
pub use remote::Statistics;
pub use request::{Body, BodyError, BodyStream, Headers, Request, Timeouts};
pub use response::{Response, ResponseBody};
pub use server::{Server, ServerOptions};
pub use url::Url;
pub use websocket::{Closed, Closing, Message, Pong, Receive, Refused, Send, Utf8Bytes, WebSocket, WebSocketOptions};
