//! The layers on a GPU against the layers of the processor: the cases of tests/kernels, run where they
//! are meant to run. Needs a build with the feature `cuda` and an NVIDIA GPU, and fails without one:
//!
//! ```text
//! cargo test --release -p kinora-diffusion --features cuda --test cuda
//! ```

mod machine;

#[path = "../kernels/layers.rs"]
mod layers;

#[path = "../kernels/tensor_cores.rs"]
mod tensor_cores;
