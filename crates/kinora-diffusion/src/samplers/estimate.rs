//! What the network's answer says about the clean picture and about the noise.

use super::{config::Prediction, mix::Mix};

/// Both halves of noisy latents `α·x₀ + σ·ε`, of latents and output.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// x₀.
    pub clean: Mix,
    /// ε.
    pub noise: Mix,
}

/// From latents `α·x₀ + σ·ε`.
pub fn at(prediction: Prediction, alpha: f64, sigma: f64) -> Estimate {
    let (latents, output) = (Mix::latents, Mix::output);
    match prediction {
        Prediction::Epsilon => Estimate {
            clean: (latents() - output() * sigma) / alpha,
            noise: output(),
        },
        Prediction::Sample => Estimate {
            clean: output(),
            noise: (latents() - output() * alpha) / sigma,
        },
        Prediction::Velocity => Estimate {
            clean: latents() * alpha - output() * sigma,
            noise: output() * alpha + latents() * sigma,
        },
        Prediction::Flow => Estimate {
            clean: latents() - output() * sigma,
            noise: latents() + output() * (1.0 - sigma),
        },
    }
}

/// x₀ from latents `x₀ + σ·ε`, which go into the network divided by `√(σ² + 1)`.
pub fn clean_at_level(prediction: Prediction, sigma: f64) -> Mix {
    let square = sigma * sigma + 1.0;
    match prediction {
        Prediction::Epsilon | Prediction::Flow => Mix::latents() - Mix::output() * sigma,
        Prediction::Sample => Mix::output(),
        Prediction::Velocity => Mix::latents() / square - Mix::output() * (sigma / square.sqrt()),
    }
}

/// The scale of latents `x₀ + σ·ε` on their way into the network.
pub fn input_scale(sigma: f64) -> f64 {
    1.0 / (sigma * sigma + 1.0).sqrt()
}
