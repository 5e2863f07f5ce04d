//! What buffers are made of.

/// Bytes that wait: small ones copied together, large ones held by whatever their owner holds them by.
pub enum Piece<B> {
    Copied(Vec<u8>),
    Held(B),
}

impl<B: AsRef<[u8]>> Piece<B> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Held(held) => held.as_ref(),
        }
    }
}
