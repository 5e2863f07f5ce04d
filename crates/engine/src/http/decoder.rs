//! Undoing the content encodings `br` and `zstd`, piece by piece, with a limit on what comes out.

use std::fmt;
use std::io;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zstd::stream::raw::{DParameter, Decoder as ZstdContext, InBuffer, Operation, OutBuffer};

/// RFC 9659: a zstd encoder for the web keeps its window within 8 MiB, so that no more memory is needed.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const ROOM_BYTES: usize = 64 * 1024;

/// Undoes one content encoding.
///
/// ```
/// use aioxide::http::Decoder;
/// let mut decoder = Decoder::new("br").unwrap();
/// let coded = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
/// assert_eq!(decoder.decode(&coded, usize::MAX).unwrap(), b"hello");
/// assert!(decoder.is_complete());
/// assert!(Decoder::new("gzip").is_none());
/// ```
pub struct Decoder(Kind);

enum Kind {
    Brotli { state: Box<Brotli>, complete: bool },
    Zstd { context: ZstdContext<'static>, complete: bool },
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Why a body could not be decoded.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The data does not follow the encoding, for the reason given.
    Corrupt(String),
    /// More than the allowed number of bytes came out.
    TooLarge,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(reason) => formatter.write_str(reason),
            Self::TooLarge => formatter.write_str("it decodes to more bytes than are allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Decoder {
    /// The decoder for `encoding`, which is `br` or `zstd`; `None` for any other.
    #[must_use]
    pub fn new(encoding: &str) -> Option<Self> {
        match encoding {
            "br" => {
                let alloc = StandardAlloc::default;
                let state = Box::new(BrotliState::new(alloc(), alloc(), alloc()));
                Some(Self(Kind::Brotli { state, complete: false }))
            }
            "zstd" => {
                let mut context = ZstdContext::new().ok()?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Some(Self(Kind::Zstd { context, complete: false }))
            }
            _ => None,
        }
    }

    /// What `data` decodes to, following what was decoded before: at most `max_bytes`.
    ///
    /// # Errors
    /// [`DecodeError`]. The decoder is of no more use then.
    pub fn decode(&mut self, data: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
        match &mut self.0 {
            Kind::Brotli { state, complete } => decode_brotli(state, complete, data, max_bytes),
            Kind::Zstd { context, complete } => decode_zstd(context, complete, data, max_bytes),
        }
    }

    /// Whether the data so far is whole: a body that ends before that was cut off.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Kind::Brotli { complete, .. } | Kind::Zstd { complete, .. } => *complete,
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if matches!(self.0, Kind::Brotli { .. }) { "br" } else { "zstd" };
        write!(formatter, "Decoder({name})")
    }
}

fn take(out: &mut Vec<u8>, piece: &[u8], max_bytes: usize) -> Result<(), DecodeError> {
    if piece.len() > max_bytes - out.len() {
        return Err(DecodeError::TooLarge);
    }
    out.extend_from_slice(piece);
    Ok(())
}

fn decode_brotli(
    state: &mut Brotli,
    complete: &mut bool,
    data: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut room = vec![0; ROOM_BYTES.min(data.len().saturating_mul(8).max(1024))];
    let (mut left, mut at, mut total) = (data.len(), 0, 0);
    if *complete && left > 0 {
        return Err(DecodeError::Corrupt("there is data after its end".into()));
    }
    loop {
        let (mut space, mut filled) = (room.len(), 0);
        let result =
            BrotliDecompressStream(&mut left, &mut at, data, &mut space, &mut filled, &mut room, &mut total, state);
        take(&mut out, &room[..filled], max_bytes)?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Ok(out),
            BrotliResult::ResultSuccess => {
                *complete = true;
                if left > 0 {
                    return Err(DecodeError::Corrupt("there is data after its end".into()));
                }
                return Ok(out);
            }
            BrotliResult::ResultFailure => return Err(DecodeError::Corrupt("it breaks the format".into())),
        }
    }
}

fn decode_zstd(
    context: &mut ZstdContext<'static>,
    complete: &mut bool,
    data: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, DecodeError> {
    let corrupt = |error: io::Error| DecodeError::Corrupt(error.to_string());
    let mut out = Vec::new();
    let mut room = vec![0; ROOM_BYTES.min(data.len().saturating_mul(8).max(1024))];
    let mut input = InBuffer::around(data);
    loop {
        let mut output = OutBuffer::around(room.as_mut_slice());
        let had_input = input.pos() < data.len();
        // 0: a frame is whole, and another may follow.
        let hint = context.run(&mut input, &mut output).map_err(corrupt)?;
        let (filled, was_full) = (output.pos(), output.pos() == output.capacity());
        take(&mut out, &room[..filled], max_bytes)?;
        if had_input || filled > 0 {
            *complete = hint == 0;
        }
        if input.pos() == data.len() && !was_full {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Decoder};

    /// A megabyte of zeros.
    fn bomb() -> Vec<u8> {
        zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap()
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let coded = [bomb(), zstd::bulk::compress(b"and more", 1).unwrap()].concat();
        for size in [1, 7, coded.len()] {
            let mut decoder = Decoder::new("zstd").unwrap();
            let mut out = Vec::new();
            for piece in coded.chunks(size) {
                out.extend(decoder.decode(piece, usize::MAX).unwrap());
            }
            assert!(decoder.is_complete() && out.len() == (1 << 20) + 8 && out.ends_with(b"more"));
        }
    }

    #[test]
    fn what_is_too_large_cut_off_or_broken_is_told() {
        let coded = bomb();
        let mut decoder = Decoder::new("zstd").unwrap();
        assert!(matches!(decoder.decode(&coded, 1 << 19), Err(DecodeError::TooLarge)));
        let mut decoder = Decoder::new("zstd").unwrap();
        decoder.decode(&coded[..coded.len() - 1], usize::MAX).unwrap();
        assert!(!decoder.is_complete());
        for encoding in ["br", "zstd"] {
            let mut decoder = Decoder::new(encoding).unwrap();
            assert!(matches!(decoder.decode(&[0xFF; 64], usize::MAX), Err(DecodeError::Corrupt(_))), "{encoding}");
        }
    }
}
