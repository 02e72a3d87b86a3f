//! The CUDA kernels, run without a GPU: `kernels/*.cu` compiled by the machine's C++ compiler
//! against `kernels/emulator`, and compared with the layers of the processor.
//!
//! How to test another kernel file `kernels/NAME.cu`:
//! 1. Include `portable.cuh` and nothing else, keep to the names that it lists, and write
//!    `REGISTER(kernel)` after each entry point.
//! 2. Add a module here with `let program = Program::of("NAME")`, and
//!    `program.run(&launch, &[argument, …], order)` per case: arguments in the kernel's order,
//!    [`Argument::tensor`] for pointers, [`Argument::scalars`] for a number or a struct of numbers
//!    (eight zero bytes for a null pointer). The buffers come back as the kernel left them, in order.
//! 3. Run every case in all of [`Order::ALL`]: what one order hides, another shows.
//!
//! Whole layers are tested by `machine`: it stands in place of a GPU while a layer runs, so that what
//! the layer plans (grids, strides, formats) is tested together with the kernel.
//!
//! [`emulator`] builds a program per kernel file, once, into the target directory; a launch is one
//! run of it, with the launch on standard input. A fault (an access outside of a buffer or of shared
//! memory, a barrier that not all threads reach) is the error of [`Program::run`].

mod emulator;
mod fallbacks;
mod layers;
mod machine;
mod proof;
mod tensor_cores;

use emulator::{Argument, Order, Program};
