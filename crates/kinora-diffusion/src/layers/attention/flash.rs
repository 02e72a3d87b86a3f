//! Attention in the kernels of NVIDIA GPUs (`kernels/attention.cuh`): tiles of keys and values come by
//! while queries and results stay on the tensor cores.

use candle_core::Tensor;

use super::{Backend, Call};
use crate::{Result, error::bail_shape, kernels::attention::Attention};

/// For heads of up to 512 numbers on a GPU.
pub(super) struct Flash;

fn planned<'a>(call: &Call<'a>) -> Attention<'a> {
    Attention {
        q: call.q,
        k: call.k,
        v: call.v,
        scale: call.scale,
        bias: call.bias,
        is_causal: call.is_causal,
    }
}

impl Backend for Flash {
    fn takes(&self, call: &Call) -> bool {
        planned(call).applies()
    }

    fn attend(&self, call: &Call) -> Result<Tensor> {
        match planned(call).run()? {
            Some(y) => Ok(y),
            None => bail_shape!("no kernel attends {:?} to {:?}", call.q, call.k),
        }
    }
}
