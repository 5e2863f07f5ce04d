//! The command line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What messages go over.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// A stream for each connection.
    Tcp,
    /// The same over unix sockets.
    Unix,
    /// A datagram for each message.
    Udp,
    /// TLS on a stream for each connection.
    Tls,
    /// A new TCP connection for each message, one after the other.
    Connections,
    /// A new TLS connection for each message, one after the other.
    Handshakes,
    /// The same, with the session of an earlier connection resumed.
    Resumptions,
    /// HTTP/1.1 requests over connections that are kept.
    Http,
}

impl std::str::FromStr for Protocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "unix" => Ok(Self::Unix),
            "udp" => Ok(Self::Udp),
            "tls" => Ok(Self::Tls),
            "connections" => Ok(Self::Connections),
            "handshakes" => Ok(Self::Handshakes),
            "resumptions" => Ok(Self::Resumptions),
            "http" => Ok(Self::Http),
            _ => Err("it is tcp, unix, udp, tls, connections, handshakes, resumptions or http"),
        }
    }
}

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Address {
    Ip(SocketAddr),
    /// That of a unix socket.
    Path(PathBuf),
}

impl std::str::FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') { Ok(Self::Path(text.into())) } else { text.parse().map(Self::Ip) }
    }
}

/// What to do, as the command line says it.
#[derive(Debug)]
pub struct Arguments {
    /// What messages go over.
    pub protocol: Protocol,
    /// The server.
    pub address: Address,
    /// How many connections are kept busy.
    pub connections: usize,
    /// A message's size.
    pub bytes: usize,
    /// How long to measure.
    pub duration: Duration,
}

impl Arguments {
    /// Reads `--name value` pairs; all five are wanted, each once.
    pub fn parse(arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let (mut protocol, mut address, mut connections, mut bytes, mut seconds) = (None, None, None, None, None);
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| invalid(&format!("{name} wants a value")))?;
            match name.as_str() {
                "--protocol" => protocol = Some(parse::<Protocol>(&name, &value)?),
                "--address" => address = Some(parse::<Address>(&name, &value)?),
                "--connections" => connections = Some(parse::<usize>(&name, &value)?),
                "--bytes" => bytes = Some(parse::<usize>(&name, &value)?),
                "--seconds" => seconds = Some(parse::<f64>(&name, &value)?),
                _ => return Err(invalid(&format!("no such option: {name}"))),
            }
        }
        let (Some(protocol), Some(address), Some(connections), Some(bytes), Some(seconds)) =
            (protocol, address, connections, bytes, seconds)
        else {
            return Err(invalid("wanted: --protocol NAME --address HOST:PORT --connections N --bytes N --seconds S"));
        };
        if connections == 0 || bytes == 0 {
            return Err(invalid("--connections and --bytes are at least 1"));
        }
        if let Address::Ip(address) = &address {
            if !address.ip().is_loopback() {
                return Err(invalid(
                    "--address must be a loopback address: this is load, and nobody else asked for it",
                ));
            }
        }
        let duration = Duration::try_from_secs_f64(seconds).map_err(|error| invalid(&format!("--seconds: {error}")))?;
        Ok(Self { protocol, address, connections, bytes, duration })
    }
}

fn parse<T: std::str::FromStr>(name: &str, value: &str) -> io::Result<T>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|error| invalid(&format!("{name} {value}: {error}")))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
