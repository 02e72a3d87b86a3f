#!/usr/bin/env python3
"""Records the reference library's schedules of FLUX.1, for the tests of samplers/.

    python record_schedules.py ../../crates/kinora-diffusion/tests/fixtures

Timesteps and noise levels at many sizes and step counts; writes schedules.safetensors.
"""
import sys
from pathlib import Path

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from safetensors.numpy import save_file

STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 20, 28, 37, 50, 100]
# Packed tokens of 64×64, 320×192, 256×256, 512×512, 1024×1024, 1920×1088 and 2048×2048 pixels.
TOKENS = [16, 240, 256, 1024, 4096, 8160, 16384]


def main(target):
    tensors = {}
    for label, config in [
        ("dev", dict(shift=3.0, use_dynamic_shifting=True)),
        ("schnell", dict(shift=1.0)),
        ("shifted", dict(shift=1.73)),
    ]:
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        sigmas, timesteps = [], []
        for tokens in TOKENS if label == "dev" else TOKENS[:1]:
            for steps in STEPS:
                mu = calculate_shift(tokens, 256, 4096, 0.5, 1.15)
                scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
                sigmas.append(scheduler.sigmas.numpy())
                timesteps.append(scheduler.timesteps.numpy())
        tensors[f"flux.{label}.sigmas"] = np.concatenate(sigmas)
        tensors[f"flux.{label}.timesteps"] = np.concatenate(timesteps)
    save_file(tensors, target / "schedules.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
