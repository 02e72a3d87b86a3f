#!/usr/bin/env python3
"""The reference library's half of the benchmark; same modes, same arguments as the example `bench` of kinora-diffusion.

reference.py stages MODEL WIDTH HEIGHT STEPS TOKENS ROUNDS    the best of ROUNDS in milliseconds as one line of JSON
reference.py picture MODEL WIDTH HEIGHT STEPS TOKENS FILE     one picture into a PNG file
"""
import json
import os
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import diffusers
import transformers
from diffusers import FluxPipeline

diffusers.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_grad_enabled(False)
torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))

PROMPT = "a lighthouse on a cliff at sunset, calm sea, two birds"


def best(rounds, call):
    """The least time on the clock and the least time of processors that one of `rounds` calls takes, after one that is
    not timed, in milliseconds: what the machine does when nothing else runs."""
    call()
    walls, busies = [], []
    for _ in range(rounds):
        start, busy = time.perf_counter(), time.process_time()
        call()
        walls.append((time.perf_counter() - start) * 1000)
        busies.append((time.process_time() - busy) * 1000)
    return min(walls), min(busies)


def main():
    mode, model, width, height, steps, tokens, last = sys.argv[1:]
    width, height, steps, tokens = int(width), int(height), int(steps), int(tokens)
    pipe = FluxPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def picture():
        return pipe(PROMPT, width=width, height=height, num_inference_steps=steps, guidance_scale=3.5,
                    max_sequence_length=tokens, generator=torch.Generator("cpu").manual_seed(1)).images[0]

    if mode == "picture":
        picture().save(last)
        return
    rounds = int(last)
    config, vae = pipe.transformer.config, pipe.vae.config
    rows, columns = height // (2 * pipe.vae_scale_factor), width // (2 * pipe.vae_scale_factor)
    call = dict(hidden_states=torch.randn(1, rows * columns, config.in_channels),
                encoder_hidden_states=torch.randn(1, tokens, config.joint_attention_dim),
                pooled_projections=torch.randn(1, config.pooled_projection_dim), timestep=torch.tensor([0.5]),
                guidance=torch.tensor([3.5]) if config.guidance_embeds else None, txt_ids=torch.zeros(tokens, 3),
                img_ids=pipe._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32), return_dict=False)
    latents = torch.randn(1, vae.latent_channels, 2 * rows, 2 * columns)
    calls = {
        "forward": lambda: pipe.transformer(**call),
        "decode": lambda: pipe.vae.decode(latents, return_dict=False),
        "picture": picture,
    }
    result = {}
    for what, run in calls.items():
        wall, busy = best(rounds, run)
        result[f"{what}_ms"], result[f"{what}_cpu_ms"] = round(wall, 3), round(busy, 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
