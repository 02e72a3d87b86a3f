//! Seeded standard normals equal to PyTorch's: the starting noise of a picture is a function of
//! its seed, here as in the reference library.
//!
//! [`CpuGenerator`] is `torch.Generator("cpu")`, [`CudaGenerator`] is `torch.Generator("cuda")`.
//! They differ in everything but their use. Not here: shapes, devices, number formats narrower
//! than f32 (PyTorch draws those in f32 and rounds).

mod mt19937;
mod philox;

use kinora_core::Rng;

pub use mt19937::CpuGenerator;
pub use philox::CudaGenerator;

/// A seeded source of standard normals.
#[derive(Clone, Debug)]
pub enum Generator {
    /// Mersenne Twister.
    Cpu(Box<CpuGenerator>),
    /// Philox.
    Cuda(CudaGenerator),
}

impl Generator {
    /// Starts the generator that a plan names.
    pub fn new(rng: Rng, seed: u64) -> Self {
        match rng {
            Rng::Cpu => Self::Cpu(Box::new(CpuGenerator::new(seed))),
            Rng::Cuda => Self::Cuda(CudaGenerator::new(seed)),
        }
    }

    /// Draws standard normals as one call of `torch.randn` does. Two draws of n are not one of 2n.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        match self {
            Self::Cpu(generator) => generator.fill_normal(out),
            Self::Cuda(generator) => generator.fill_normal(out),
        }
    }

    /// Where the stream stands, as bytes: [`Generator::restore`] goes on with the same numbers.
    pub fn save(&self) -> Vec<u8> {
        let (kind, rest) = match self {
            Self::Cpu(generator) => (CPU, generator.save()),
            Self::Cuda(generator) => (CUDA, generator.save()),
        };
        let mut bytes = vec![kind];
        bytes.extend(rest);
        bytes
    }

    /// A generator from what [`Generator::save`] gave; none when the bytes are not such.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            CPU => Some(Self::Cpu(Box::new(CpuGenerator::restore(rest)?))),
            CUDA => CudaGenerator::restore(rest).map(Self::Cuda),
            _ => None,
        }
    }
}

/// First bytes of a saved generator.
const CPU: u8 = 1;
const CUDA: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_generator_goes_on_with_the_same_numbers() {
        for rng in [Rng::Cpu, Rng::Cuda] {
            let mut generator = Generator::new(rng, 42);
            // Sizes that leave a spare number and a half-used block behind.
            for size in [100, 3, 1000] {
                generator.fill_normal(&mut vec![0.0; size]);
                let mut again = Generator::restore(&generator.save()).unwrap();
                let (mut ours, mut theirs) = (vec![0.0; 700], vec![1.0; 700]);
                generator.clone().fill_normal(&mut ours[..5]);
                again.clone().fill_normal(&mut theirs[..5]);
                assert_eq!(ours[..5], theirs[..5]);
                generator.clone().fill_normal(&mut ours);
                again.fill_normal(&mut theirs);
                assert_eq!(ours, theirs);
            }
            let bytes = generator.save();
            assert!(Generator::restore(&bytes[..bytes.len() - 1]).is_none());
        }
        assert!(Generator::restore(&[]).is_none());
        assert!(Generator::restore(&[9, 0, 0]).is_none());
        let mut beyond = Generator::new(Rng::Cpu, 0).save();
        beyond[1 + 4 * 624] = 255;
        assert!(Generator::restore(&beyond).is_none());
    }
}
