//! The Gaussian path that solvers in λ walk: α, σ and `λ = ln α − ln σ` of a level.

use super::{config::Config, levels::Levels};

/// A point of the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Weight of the picture.
    pub alpha: f64,
    /// Weight of the noise.
    pub sigma: f64,
    /// Half the logarithm of the signal-to-noise ratio; +∞ where the noise is gone.
    pub lambda: f64,
}

/// The point at a level. Flow levels are shares of noise; others are `σ / α` of a path on which
/// `α² + σ² = 1`.
pub fn point(config: &Config, levels: &Levels, index: usize) -> Point {
    let level = levels.sigma(index);
    let (alpha, sigma) = if config.is_flow {
        // Pure noise has no λ; the reference's own lists stop as far from it.
        let level = level.min(1.0 - 1e-6);
        (1.0 - level, level)
    } else {
        let alpha = 1.0 / (level * level + 1.0).sqrt();
        (alpha, level * alpha)
    };
    Point {
        alpha,
        sigma,
        lambda: alpha.ln() - sigma.ln(),
    }
}
