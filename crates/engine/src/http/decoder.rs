//! Undoing the content encodings `br` and `zstd`, piece by piece, however much a little data decodes to.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zstd::stream::raw::{DParameter, Decoder as ZstdContext, InBuffer, Operation, OutBuffer};

/// RFC 9659: a zstd encoder for the web keeps its window within 8 MiB, so that no more memory is needed.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Undoes one content encoding: fed with coded data, it gives what that decodes to in pieces of a chosen size.
///
/// ```
/// use aioxide::http::Decoder;
/// let mut decoder = Decoder::new("br").unwrap();
/// decoder.feed(&[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03]);
/// assert_eq!(decoder.take(3).unwrap(), b"hel");
/// assert_eq!(decoder.take(3).unwrap(), b"lo");
/// assert!(decoder.take(3).unwrap().is_empty() && decoder.is_complete());
/// assert!(Decoder::new("gzip").is_none());
/// ```
pub struct Decoder {
    kind: Kind,
    /// What was fed and is not decoded yet, from `at` on.
    fed: Vec<u8>,
    at: usize,
    complete: bool,
}

enum Kind {
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(ZstdContext<'static>),
}

/// Why a body could not be decoded: it does not follow the encoding, in the way that the message says.
#[derive(Debug)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl Decoder {
    /// The decoder for `encoding`, which is `br` or `zstd`; `None` for any other.
    #[must_use]
    pub fn new(encoding: &str) -> Option<Self> {
        let kind = match encoding {
            "br" => {
                let alloc = StandardAlloc::default;
                Kind::Brotli(Box::new(BrotliState::new(alloc(), alloc(), alloc())))
            }
            "zstd" => {
                let mut context = ZstdContext::new().ok()?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Kind::Zstd(context)
            }
            _ => return None,
        };
        Some(Self { kind, fed: Vec::new(), at: 0, complete: false })
    }

    /// Adds coded data.
    pub fn feed(&mut self, data: &[u8]) {
        self.fed.drain(..self.at);
        self.at = 0;
        self.fed.extend_from_slice(data);
    }

    /// The next decoded bytes, at most `max_bytes`; none when more has to be fed first.
    ///
    /// # Errors
    /// [`DecodeError`]. The decoder is of no more use then.
    pub fn take(&mut self, max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
        let mut out = vec![0; max_bytes];
        let filled = match &mut self.kind {
            Kind::Brotli(state) => {
                let (mut left, mut space, mut filled, mut total) = (self.fed.len() - self.at, max_bytes, 0, 0);
                if self.complete {
                    return if left > 0 {
                        Err(DecodeError("there is data after its end".into()))
                    } else {
                        Ok(Vec::new())
                    };
                }
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut self.at,
                    &self.fed,
                    &mut space,
                    &mut filled,
                    &mut out,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultSuccess => self.complete = true,
                    BrotliResult::ResultFailure => return Err(DecodeError("it breaks the format".into())),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                filled
            }
            Kind::Zstd(context) => {
                let mut filled = 0;
                // A call may take input, such as the head of a frame, without giving output.
                loop {
                    let mut input = InBuffer::around(&self.fed[self.at..]);
                    let mut output = OutBuffer::around_pos(out.as_mut_slice(), filled);
                    let had_input = self.at < self.fed.len();
                    let hint = context.run(&mut input, &mut output).map_err(|error| DecodeError(error.to_string()))?;
                    let (taken, made) = (input.pos(), output.pos() - filled);
                    self.at += taken;
                    filled += made;
                    if had_input || made > 0 {
                        // 0: a frame is whole, and another may follow.
                        self.complete = hint == 0;
                    }
                    if filled == max_bytes || (taken == 0 && made == 0) {
                        break filled;
                    }
                }
            }
        };
        out.truncate(filled);
        Ok(out)
    }

    /// Whether the data so far is whole: a body that ends before that was cut off.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete && self.at == self.fed.len()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if matches!(self.kind, Kind::Brotli(_)) { "br" } else { "zstd" };
        write!(formatter, "Decoder({name})")
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Decoder};

    fn decode_all(decoder: &mut Decoder, piece_bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        loop {
            let piece = decoder.take(piece_bytes_max)?;
            assert!(piece.len() <= piece_bytes_max);
            if piece.is_empty() {
                return Ok(out);
            }
            out.extend(piece);
        }
    }

    /// A megabyte of zeros.
    fn bomb() -> Vec<u8> {
        zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap()
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let coded = [bomb(), zstd::bulk::compress(b"and more", 1).unwrap()].concat();
        for (fed, taken) in [(1, 4096), (7, 1000), (coded.len(), 1 << 21), (coded.len(), 1024)] {
            let mut decoder = Decoder::new("zstd").unwrap();
            let mut out = Vec::new();
            for piece in coded.chunks(fed) {
                decoder.feed(piece);
                out.extend(decode_all(&mut decoder, taken).unwrap());
            }
            assert!(decoder.is_complete() && out.len() == (1 << 20) + 8 && out.ends_with(b"more"));
        }
    }

    #[test]
    fn what_is_cut_off_or_broken_is_told() {
        let coded = bomb();
        let mut decoder = Decoder::new("zstd").unwrap();
        decoder.feed(&coded[..coded.len() - 1]);
        decode_all(&mut decoder, 4096).unwrap();
        assert!(!decoder.is_complete());
        for encoding in ["br", "zstd"] {
            let mut decoder = Decoder::new(encoding).unwrap();
            decoder.feed(&[0xFF; 64]);
            assert!(decode_all(&mut decoder, 4096).is_err(), "{encoding}");
        }
    }
}
