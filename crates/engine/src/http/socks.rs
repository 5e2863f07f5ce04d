//! A tunnel through a SOCKS 5 proxy (RFC 1928), with user and password (RFC 1929) if there are any.
//!
//! Names are looked up by the proxy: what the client's machine knows, or tells its own resolver, plays no part.

use std::mem::MaybeUninit;

use url::{Host, Url};

use super::error::{Result, io_words};
use super::proxy::{Proxy, destination};
use crate::transport::ByteStream;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xFF;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Asks the proxy, to which `stream` is connected, for a tunnel to the URL's host. From then on the stream is one to
/// that host.
pub(super) async fn connect(stream: &dyn ByteStream, proxy: &Proxy, url: &Url) -> Result<()> {
    let mut channel = Channel { stream, proxy };
    authenticate(&mut channel).await?;
    channel.send(&request(proxy, url)?).await?;
    let [version, reply, _, kind] = channel.receive().await?;
    if version != VERSION {
        return Err(proxy.error("does not speak SOCKS 5"));
    }
    if reply != 0 {
        return Err(proxy.error(format_args!("refused a tunnel: {}", reply_words(reply))));
    }
    // The address it uses for the connection is of no use here, but must be taken off the stream.
    match kind {
        IPV4 => channel.receive::<6>().await.map(drop),
        IPV6 => channel.receive::<18>().await.map(drop),
        NAME => {
            let [length] = channel.receive().await?;
            for _ in 0..usize::from(length) + 2 {
                channel.receive::<1>().await?;
            }
            Ok(())
        }
        other => Err(proxy.error(format_args!("answered with an unknown kind of address: {other}"))),
    }
}

async fn authenticate(channel: &mut Channel<'_>) -> Result<()> {
    let proxy = channel.proxy;
    let Some((user, password)) = &proxy.credentials else {
        channel.send(&[VERSION, 1, NO_AUTHENTICATION]).await?;
        return match channel.receive().await? {
            [VERSION, NO_AUTHENTICATION] => Ok(()),
            [VERSION, NONE_ACCEPTABLE] => Err(proxy.error("wants credentials")),
            _ => Err(proxy.error("does not speak SOCKS 5")),
        };
    };
    channel.send(&[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD]).await?;
    match channel.receive().await? {
        [VERSION, NO_AUTHENTICATION] => return Ok(()),
        [VERSION, USER_AND_PASSWORD] => {}
        [VERSION, NONE_ACCEPTABLE] => return Err(proxy.error("takes no user and password")),
        _ => return Err(proxy.error("does not speak SOCKS 5")),
    }
    let mut message = vec![1];
    for part in [user, password] {
        message.push(length(part, proxy)?);
        message.extend(part);
    }
    channel.send(&message).await?;
    match channel.receive().await? {
        [_, 0] => Ok(()),
        _ => Err(proxy.error("refused the user or the password")),
    }
}

fn request(proxy: &Proxy, url: &Url) -> Result<Vec<u8>> {
    let (host, port) = destination(url);
    let mut message = vec![VERSION, CONNECT, 0];
    match host {
        Some(Host::Ipv4(address)) => {
            message.push(IPV4);
            message.extend(address.octets());
        }
        Some(Host::Ipv6(address)) => {
            message.push(IPV6);
            message.extend(address.octets());
        }
        Some(Host::Domain(name)) => {
            message.extend([NAME, length(name.as_bytes(), proxy)?]);
            message.extend(name.as_bytes());
        }
        None => return Err(proxy.error("cannot be asked for a URL without a host")),
    }
    message.extend(port.to_be_bytes());
    Ok(message)
}

fn length(part: &[u8], proxy: &Proxy) -> Result<u8> {
    u8::try_from(part.len()).map_err(|_| proxy.error("cannot be told a name of more than 255 bytes"))
}

/// RFC 1928, section 6.
fn reply_words(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "for an unknown reason",
    }
}

/// The conversation with the proxy. It never receives more than it must: what follows is the tunnel's.
struct Channel<'a> {
    stream: &'a dyn ByteStream,
    proxy: &'a Proxy,
}

impl Channel<'_> {
    async fn send(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let sent = std::future::poll_fn(|context| self.stream.poll_write(context, data)).await;
            let sent = sent.map_err(|error| self.proxy.error(format_args!("failed: {}", io_words(&error))))?;
            data = &data[sent..];
        }
        Ok(())
    }

    async fn receive<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut received = [0; N];
        let mut filled = 0;
        while filled < N {
            let mut room = [MaybeUninit::uninit(); N];
            let room = &mut room[filled..];
            let count = std::future::poll_fn(|context| self.stream.poll_read(context, room))
                .await
                .map_err(|error| self.proxy.error(format_args!("failed: {}", io_words(&error))))?;
            if count == 0 {
                return Err(self.proxy.error("closed the connection instead of answering"));
            }
            for (place, byte) in received[filled..].iter_mut().zip(&room[..count]) {
                // SAFETY: the kernel has just filled the first `count` bytes of the room.
                *place = unsafe { byte.assume_init() };
            }
            filled += count;
        }
        Ok(received)
    }
}
