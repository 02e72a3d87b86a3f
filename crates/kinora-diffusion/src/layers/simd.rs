//! Compiles a loop for each vector width and picks one at run time.
//!
//! The loops are plain Rust that the compiler vectorises; `run` only decides for which instruction
//! set. On aarch64 NEON is always there; on x86-64 AVX-512, AVX2 with FMA, or the SSE2 baseline.

use pulp::WithSimd;

/// Runs `op` compiled for the widest vectors of this processor. What `op` calls must be
/// `#[inline(always)]`, or it stays at the baseline.
#[inline(always)]
pub(crate) fn run<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::{
            Simd,
            x86::{V3, V4},
        };
        if let Some(simd) = V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = V3::try_new() {
            return Simd::vectorize(simd, op);
        }
        Simd::vectorize(pulp::Scalar::new(), op)
    }
    #[cfg(not(target_arch = "x86_64"))]
    pulp::Arch::new().dispatch(op)
}
