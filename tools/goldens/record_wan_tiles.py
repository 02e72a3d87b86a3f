#!/usr/bin/env python3
"""Clips through the tiny VAEs of recorded Wan cases in tiles, as `AutoencoderKLWan.enable_tiling` cuts and joins them:

    record_wan_tiles.py tools/goldens/cases crates/kinora-diffusion/tests/fixtures/wan_tiles

Writes <case>.safetensors: latents as the network gives them, the frames that tiles of 4 latents (3 apart) make of them, and the
latents that tiles of the same kind make of the frames. Sizes leave tiles of every kind: whole ones, cut ones, and ones
that are all overlap."""
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
cases, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
for case, (rows, columns) in {"wan22_t2v_a14b": (7, 8), "wan22_ti2v_5b_i2v_heldout": (5, 6)}.items():
    vae = AutoencoderKLWan.from_pretrained(cases / case / "model" / "vae", torch_dtype=torch.float32).eval()
    scale, patch = vae.spatial_compression_ratio, vae.config.patch_size or 1
    latents = torch.randn(1, vae.config.z_dim, 2, rows, columns, generator=torch.Generator().manual_seed(9)) * 0.8
    tensors = {"latents": latents}
    untiled = vae.decode(latents, return_dict=False)[0]
    vae.enable_tiling(4 * scale, 4 * scale, 3 * scale, 3 * scale)
    tensors["frames"] = vae.decode(latents, return_dict=False)[0]
    # The encoder counts in patches.
    vae.enable_tiling(4 * scale // patch, 4 * scale // patch, 3 * scale // patch, 3 * scale // patch)
    tensors["encoded"] = vae.encode(tensors["frames"]).latent_dist.mode()
    vae.use_tiling = False
    whole = vae.encode(tensors["frames"]).latent_dist.mode()
    print(case, {k: tuple(v.shape) for k, v in tensors.items()}, "tiles move frames by",
          round(float((tensors["frames"] - untiled).abs().max() / untiled.std()), 3), "and latents by",
          round(float((tensors["encoded"] - whole).abs().max() / whole.std()), 3))
    # Batches of clips have the frames third; ours first.
    save_file({k: v[0].transpose(0, 1).contiguous() for k, v in tensors.items()}, out / f"{case}.safetensors")
