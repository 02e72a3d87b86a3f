//! The random numbers behind choices.

/// A stream of random numbers that a seed starts: SplitMix64 (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014).
///
/// The numbers are a promise: the same seed draws the same words in every version of Kinora. So the
/// generator is written out here instead of taken from a library, and its first numbers are tested.
///
/// How draws are taken: groups draw in the order in which they stand in the text; only the option
/// that was taken draws further. A choice draws once below the sum of its weights (in millionths);
/// a group with a range of picks draws their number first.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of a seed. Texts of one picture use streams of different numbers (0 the prompt,
    /// 1 the negative prompt), so that they do not choose alike.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self { state: stream };
        Self {
            state: seed ^ if stream == 0 { 0 } else { mixed.next() },
        }
    }

    /// The next 64 random bits.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to `limit` − 1; 0 where the limit is 0. Takes the high half of a 128-bit
    /// product, which prefers no number by more than limit / 2⁶⁴.
    pub fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference program's numbers for the seed 1234567.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut draws = Draws::new(1_234_567, 0);
        let numbers: Vec<u64> = (0..5).map(|_| draws.next()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn draws_are_even_and_streams_differ() {
        let mut counts = [0_u32; 6];
        let mut draws = Draws::new(7, 0);
        for _ in 0..60_000 {
            counts[usize::try_from(draws.below(6)).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        );
        let start = |stream| Draws::new(7, stream).below(u64::MAX);
        assert_ne!(start(0), start(1));
        assert_eq!(Draws::new(7, 0).below(0), 0);
    }
}
