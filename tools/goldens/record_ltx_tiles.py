#!/usr/bin/env python3
"""Clips through the tiny VAEs of recorded LTX cases in tiles, as `enable_tiling` of `AutoencoderKLLTXVideo` and
`AutoencoderKLLTX2Video` cuts and joins them:

    record_ltx_tiles.py tools/goldens/cases crates/kinora-diffusion/tests/fixtures/ltx_tiles

Writes <case>.safetensors: latents as the network takes them, the first and the seventh of the frames that tiles of 3 latents
(2 apart) make of them, at the noise level 0.05 where the decoder is told one, and mean and logarithm of the variance that tiles of
the same kind make of the first frame. Sizes leave tiles of every kind: whole ones, cut ones, and ones that are all overlap, except
where the decoder pads by reflection: it cannot take a tile of one row."""
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTX2Video, AutoencoderKLLTXVideo
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
cases, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
for case, (rows, columns) in {"ltx_video": (3, 5), "ltx_video_095_heldout": (3, 5), "ltx2": (4, 6)}.items():
    folder = cases / case / "model" / "vae"
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    kind = {"AutoencoderKLLTXVideo": AutoencoderKLLTXVideo, "AutoencoderKLLTX2Video": AutoencoderKLLTX2Video}[name]
    vae = kind.from_pretrained(folder, torch_dtype=torch.float32).eval()
    scale = vae.spatial_compression_ratio
    latents = torch.randn(1, vae.config.latent_channels, 2, rows, columns, generator=torch.Generator().manual_seed(9)) * 0.8
    time = torch.tensor([0.05]) if vae.config.timestep_conditioning else None
    decode = lambda: vae.decode(latents, time, return_dict=False)[0]
    untiled = decode()
    vae.enable_tiling(3 * scale, 3 * scale, None, 2 * scale, 2 * scale)
    tensors = {"latents": latents, "frames": decode()}
    first = tensors["frames"][:, :, :1].clamp(-1, 1)
    said = vae.encode(first).latent_dist
    tensors |= {"mean": said.mean, "logvar": said.logvar[:, :1]}
    moved = float((tensors["frames"] - untiled).abs().max() / untiled.std())
    tensors["frames"] = tensors["frames"][:, :, [0, 6]]
    print(case, {k: tuple(v.shape) for k, v in tensors.items()}, "tiles move frames by", round(moved, 3))
    # Batches of clips have the frames third; ours first.
    save_file({k: v[0].transpose(0, 1).contiguous() for k, v in tensors.items()}, out / f"{case}.safetensors")
