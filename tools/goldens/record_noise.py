#!/usr/bin/env python3
"""Records what PyTorch's CPU generator draws, for the tests of noise.rs.

    python record_noise.py ../../crates/kinora-diffusion/tests/fixtures/noise.safetensors

Needs torch, numpy and safetensors. Sizes below 16 take another path through PyTorch than the rest,
and sizes that are no multiple of 16 draw their last 16 numbers anew, so every small size is here;
of the large ones only a sample is kept (KEPT names the rule, the test repeats it).
"""
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

SEEDS = [0, 42, 2**32 + 7, 2**64 - 1]
LARGE = [255, 256, 257, 1000, 4096, 65537]
# Draws in a row from one generator: small ones keep a spare number for the next small one.
SEQUENCE = [3, 16, 2, 5, 20, 1, 1, 7, 33]


def kept(values):
    """The first 32, every 61st and the last 20 numbers of a large draw."""
    return np.concatenate([values[:32], values[::61], values[-20:]])


def draw(seed, sizes, dtype=torch.float32):
    generator = torch.Generator("cpu").manual_seed(seed)
    return [torch.randn(n, generator=generator, dtype=dtype).numpy() for n in sizes]


def main(path):
    out = {}
    for index, seed in enumerate(SEEDS):
        sizes = range(1, 71) if index < 2 else [1, 2, 15, 16, 17, 31, 32, 33, 64, 70]
        out[f"small.{index}"] = np.concatenate([draw(seed, [n])[0] for n in sizes])
        for n in LARGE:
            out[f"large.{index}.{n}"] = kept(draw(seed, [n])[0])
        out[f"sequence.{index}"] = np.concatenate(draw(seed, SEQUENCE))
        out[f"double.{index}"] = np.concatenate(draw(seed, SEQUENCE, torch.float64))
        # The full range of int64: two words of the generator, the high one first.
        words = torch.empty(1000, dtype=torch.int64)
        words.random_(-(2**63), None, generator=torch.Generator("cpu").manual_seed(seed))
        out[f"words.{index}"] = words.numpy()[::7].copy()
    save_file(out, path, metadata={"torch": torch.__version__})


if __name__ == "__main__":
    main(sys.argv[1])
