//! Random numbers for tests that print their seed: it tells the whole story.

#![allow(dead_code, reason = "each test uses its part")]

/// A stream of bits that are as random as they need be.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// Changes a few places of `data` as nobody would expect.
    pub fn damage(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(data.len() + 1);
            let until = at + self.below((data.len() - at).min(20) + 1);
            match self.below(6) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 => drop(data.drain(at..until)),
                2 => data.truncate(at),
                3 => {
                    let length = self.below(6);
                    let more = self.bytes(length);
                    data.splice(at..at, more);
                }
                4 => {
                    let again = data[at..until].to_vec();
                    data.splice(at..at, again);
                }
                _ => {
                    let special =
                        self.pick(&[b"\r\n".as_slice(), b"\0", b"\n", b" ", b":", b"\xff", b"9", b"-1", b"\r\n\r\n"]);
                    data.splice(at..at, special.iter().copied());
                }
            }
        }
    }

    /// Cuts `data` into pieces.
    pub fn cut(&mut self, data: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = data;
        while !rest.is_empty() {
            let most = if self.one_in(3) { 3 } else { rest.len() };
            let (piece, left) = rest.split_at(1 + self.below(most.min(rest.len())));
            pieces.push(piece.to_vec());
            rest = left;
        }
        pieces
    }
}

/// Runs `one_run` with one seed after the other, as often as `AIOXIDE_FUZZ_RUNS` says, from `AIOXIDE_FUZZ_SEED` on.
pub fn fuzz(runs: u64, mut one_run: impl FnMut(&mut Random)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("AIOXIDE_FUZZ_SEED").unwrap_or(1);
    for seed in first..first + number("AIOXIDE_FUZZ_RUNS").unwrap_or(runs) {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one_run(&mut Random(seed))));
        assert!(run.is_ok(), "seed {seed}: AIOXIDE_FUZZ_SEED={seed} AIOXIDE_FUZZ_RUNS=1 runs it again");
    }
}
