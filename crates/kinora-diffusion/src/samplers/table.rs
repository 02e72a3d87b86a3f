//! How much of the picture is left at each time of the training, rounded where the reference
//! library rounds.

use super::config::{BetaRule, Betas};

/// Cumulative products of `1 − β`, one for each time of the training.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseTable {
    /// ᾱ, falling. Numbers of f32 except for CogVideoX, which keeps f64.
    pub alphas: Vec<f64>,
}

impl NoiseTable {
    /// In f32, as all image models have it. `is_zero_snr` moves the last one to 0; the rules that
    /// divide by it set `floor`, and get 2⁻²⁴ there instead.
    pub fn new(betas: &Betas, is_zero_snr: bool, floor: bool) -> Self {
        let mut betas = betas_f32(betas);
        if is_zero_snr {
            betas = rescale_betas(&betas);
        }
        let mut alphas = cumulate(betas.iter().map(|beta| 1.0 - beta));
        if is_zero_snr
            && floor
            && let Some(last) = alphas.last_mut()
        {
            *last = 2f32.powi(-24);
        }
        Self {
            alphas: alphas.into_iter().map(f64::from).collect(),
        }
    }

    /// CogVideoX's: f64 (where its betas are), the signal-to-noise ratio divided by a scale, and
    /// the zero at the end made on the products themselves.
    pub fn shifted(betas: &Betas, is_zero_snr: bool, snr_scale: f64) -> Self {
        let mut alphas = if betas.rule == BetaRule::ScaledLinear && betas.trained.is_none() {
            let (first, last) = (betas.first.sqrt(), betas.last.sqrt());
            let roots = linspace_f64(first, last, betas.count);
            let mut product = 1.0;
            roots
                .into_iter()
                .map(|root| {
                    product *= 1.0 - root * root;
                    product
                })
                .collect()
        } else {
            let alphas = cumulate(betas_f32(betas).iter().map(|beta| 1.0 - beta));
            alphas.into_iter().map(f64::from).collect::<Vec<f64>>()
        };
        for alpha in &mut alphas {
            *alpha /= snr_scale + (1.0 - snr_scale) * *alpha;
        }
        if is_zero_snr
            && let (Some(first), Some(last)) = (alphas.first().copied(), alphas.last().copied())
        {
            let (first, last) = (first.sqrt(), last.sqrt());
            for alpha in &mut alphas {
                let root = (alpha.sqrt() - last) * (first / (first - last));
                *alpha = root * root;
            }
        }
        Self { alphas }
    }

    /// ᾱ at a time; beyond the ends the nearest.
    pub fn alpha(&self, time: i64) -> f64 {
        let last = self.alphas.len().saturating_sub(1);
        let index = usize::try_from(time).unwrap_or(0).min(last);
        self.alphas.get(index).copied().unwrap_or(1.0)
    }

    /// Noise levels `√((1 − ᾱ) / ᾱ)` at the times of the training, rising.
    pub fn sigmas(&self) -> Vec<f32> {
        self.alphas
            .iter()
            .map(|alpha| {
                let alpha = *alpha as f32;
                ((1.0 - alpha) / alpha).sqrt()
            })
            .collect()
    }
}

fn betas_f32(betas: &Betas) -> Vec<f32> {
    if let Some(trained) = &betas.trained {
        return trained.iter().map(|beta| *beta as f32).collect();
    }
    match betas.rule {
        BetaRule::Linear => linspace_f32(betas.first, betas.last, betas.count),
        BetaRule::ScaledLinear => {
            let roots = linspace_f32(betas.first.sqrt(), betas.last.sqrt(), betas.count);
            roots.into_iter().map(|root| root * root).collect()
        }
        BetaRule::Cosine => {
            let bar = |time: f64| {
                let root = ((time + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos();
                root * root
            };
            let count = betas.count as f64;
            (0..betas.count)
                .map(|i| {
                    let (from, to) = (i as f64 / count, (i + 1) as f64 / count);
                    (1.0 - bar(to) / bar(from)).min(0.999) as f32
                })
                .collect()
        }
    }
}

/// S. Lin et al., "Common diffusion noise schedules and sample steps are flawed", algorithm 1.
fn rescale_betas(betas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = cumulate(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    for root in &mut roots {
        *root = (*root - last) * scale;
    }
    let products: Vec<f32> = roots.iter().map(|root| root * root).collect();
    let before = [1.0].iter().chain(&products);
    products
        .iter()
        .zip(before)
        .map(|(product, before)| 1.0 - product / before)
        .collect()
}

/// PyTorch multiplies f32 numbers up in f64 and rounds each product.
fn cumulate(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut product = 1.0f64;
    factors
        .map(|factor| {
            product *= f64::from(factor);
            product as f32
        })
        .collect()
}

/// `torch.linspace` of f32: from both ends to the middle, each number rounded once.
fn linspace_f32(first: f64, last: f64, count: usize) -> Vec<f32> {
    let (first, last) = (first as f32, last as f32);
    let step = (last - first) / count.saturating_sub(1).max(1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, first)
            } else {
                (-step).mul_add((count - i - 1) as f32, last)
            }
        })
        .collect()
}

fn linspace_f64(first: f64, last: f64, count: usize) -> Vec<f64> {
    let step = (last - first) / count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f64, first)
            } else {
                (-step).mul_add((count - i - 1) as f64, last)
            }
        })
        .collect()
}
