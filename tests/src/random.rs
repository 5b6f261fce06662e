//! Seeded randomness (SplitMix64): small, and the same on every machine.

/// A generator; two with one seed give the same numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The seed of a test: `MEMCLOUD_SEED` or `default`, printed so that a failure can be repeated.
    pub fn announced(test: &str, default: u64) -> Self {
        let seed = std::env::var("MEMCLOUD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        println!("{test}: seed {seed} (MEMCLOUD_SEED={seed} repeats it)");
        Self(seed)
    }

    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent generator, for a thread of its own.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// `length` printable bytes, without line ends.
    pub fn letters(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            out.extend(self.draw().to_le_bytes().map(|byte| b'a' + byte % 26));
        }
        out.truncate(length);
        out
    }
}
