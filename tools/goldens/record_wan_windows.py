#!/usr/bin/env python3
"""Clips of the tiny Wan models of recorded cases, made by the reference in windows of time:

    record_wan_windows.py tools/goldens/cases crates/kinora-diffusion/tests/fixtures/wan_windows

The reference's own pipeline runs; only what it calls as its transformer goes over the clip in windows: the first begins
with the clip, the last ends with it, those between are a stride apart and move from step to step; over shared frames the
earlier window fades into the later one linearly, which begins with nothing. Where the clip begins with a picture, every
later window has the clip's first frame in place of its own. Writes <case>.safetensors: noise, given pictures (8 bits),
the latents after every step, and as metadata what was asked."""
import json, sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
cases, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
# Width, height, frames, steps, frames of a window, frames shared; pictures at the beginning and the end.
ASKED = {
    "wan22_t2v_a14b": (48, 32, 45, 5, 21, 8, 0),
    "wan21_i2v": (48, 32, 33, 4, 17, 8, 1),
    "wan21_flf2v": (48, 32, 37, 4, 17, 4, 2),
    "wan22_ti2v_5b_i2v_heldout": (64, 64, 41, 4, 21, 12, 1),
}


def halves(step):
    """0, 1/2, 1/4, 3/4, 1/8 ..."""
    value, unit = Fraction(0), Fraction(1, 2)
    while step:
        value, unit, step = value + unit * (step & 1), unit / 2, step >> 1
    return value


def places(clip, length, overlap, step):
    stride, last = length - overlap, clip - length
    inner = -(-last // stride) - 1
    lowest = last - inner * stride
    first = stride - int(halves(step) * (stride - lowest + 1))
    return [0, *(first + k * stride for k in range(inner)), last]


def weigh(starts, length, clip):
    rows = torch.zeros(len(starts), clip, dtype=torch.float64)
    for i, start in enumerate(starts):
        for f in range(start, start + length):
            up = 1.0 if i == 0 else min(1.0, (f - start) / (starts[i - 1] + length - start))
            down = 1.0
            if i + 1 < len(starts) and f >= starts[i + 1]:
                down = 1.0 - (f - starts[i + 1]) / (start + length - starts[i + 1])
            rows[i, f] = min(up, down)
    return (rows / rows.sum(0)).float()


class Windowed:
    """Stands in the place of a transformer."""

    def __init__(self, pipe, inner, length, overlap, has_first):
        self.__dict__.update(pipe=pipe, inner=inner, length=length, overlap=overlap, has_first=has_first)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, hidden_states, timestep, **others):
        clip = hidden_states.shape[2]
        step = self.pipe.scheduler.timesteps.tolist().index(int(self.pipe._current_timestep))
        starts = places(clip, self.length, self.overlap, step)
        weights, result = weigh(starts, self.length, clip), 0
        if timestep.ndim == 2:
            timestep = timestep[:, : timestep.shape[1] // clip * self.length]
        for start, weight in zip(starts, weights):
            seen = list(range(start, start + self.length))
            if self.has_first:
                seen[0] = 0
            part = self.inner(hidden_states=hidden_states[:, :, seen], timestep=timestep, **others)[0]
            whole = torch.zeros(*part.shape[:2], clip, *part.shape[3:])
            whole[:, :, start : start + self.length] = part
            result = result + whole * weight[None, None, :, None, None]
        return (result,)


for case, (width, height, frames, steps, context, overlap, pictures) in ASKED.items():
    pipe = DiffusionPipeline.from_pretrained(cases / case / "model", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    scale = 16 if "5b" in case else 8
    latent = lambda n: (n - 1) // 4 + 1
    shape = (1, pipe.vae.config.z_dim, latent(frames), height // scale, width // scale)
    tensors = {"noise": torch.randn(shape, generator=torch.Generator().manual_seed(5))}
    asked = dict(prompt="a boat drifts over a quiet lake", negative_prompt="blurry", width=width, height=height, num_frames=frames,
                 num_inference_steps=steps, guidance_scale=4.0, max_sequence_length=512 if "wan21" in case else 32)
    if "a14b" in case:
        asked["guidance_scale_2"] = 3.0
    call = dict(asked, latents=tensors["noise"].clone(), output_type="latent", return_dict=False)
    for name in ("image", "last_image")[:pictures]:
        y, x, c = np.mgrid[0:height, 0:width, 0:3]
        pixels = ((y * 5 + x * 3 + c * 60 + 90 * (name == "image")) % 256).astype(np.uint8)
        tensors[name] = torch.from_numpy(pixels)
        call[name] = Image.fromarray(pixels)
    length, shared = latent(context), overlap // 4
    for part in ("transformer", "transformer_2"):
        if getattr(pipe, part, None) is not None:
            pipe.__dict__[part] = Windowed(pipe, getattr(pipe, part), length, shared, pictures > 0)

    def keep(_, step, __, state):
        tensors[f"step{step}.latents"] = state["latents"].clone()
        return {}

    tensors["latents"] = pipe(**call, callback_on_step_end=keep)[0]
    places_told = [places(latent(frames), length, shared, step) for step in range(steps)]
    asked |= dict(context_frames=context, context_overlap=overlap, windows=places_told)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{case}.safetensors", {"asked": json.dumps(asked)})
    print(case, places_told, {k: round(float(v.std()), 3) for k, v in tensors.items() if k.endswith("latents")})
