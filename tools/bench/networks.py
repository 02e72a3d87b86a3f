#!/usr/bin/env python3
"""The reference library's half of the comparison of single networks at their true sizes, with random weights.

networks.py make FOLDER                             writes unet/, vae/ and wan_vae/ into FOLDER, weights in bf16 (2.2 GB)
networks.py time unet|vae|wan_vae FOLDER ROUNDS     the best of ROUNDS in milliseconds and the memory of loading and
                                                    computing in bytes, as one line of JSON; activations in f32
"""
import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import diffusers
from diffusers import AutoencoderKL, AutoencoderKLWan, UNet2DConditionModel

from reference import best

diffusers.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
torch.set_grad_enabled(False)
torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))


def build(network: str):
    torch.manual_seed(0)
    if network == "unet":  # SD 1.5
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    if network == "vae":  # SDXL
        return AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=1024,
            scaling_factor=0.13025)
    return AutoencoderKLWan()  # Wan 2.1


def memory() -> tuple[int, int]:
    status = Path("/proc/self/status").read_text().splitlines()
    field = lambda name: next((int(line.split()[1]) * 1024 for line in status if line.startswith(name)), 0)
    return field("VmRSS:"), field("VmHWM:")


def forget_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def measure(network: str, folder: Path, rounds: int) -> dict:
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "wan_vae": AutoencoderKLWan}[network]
    bare, _ = memory()
    model = kind.from_pretrained(folder, torch_dtype=torch.float32)
    resident, peak = memory()
    if network == "unet":
        latents, text = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
        call = lambda: model(latents, torch.tensor(500), text, return_dict=False)
    elif network == "vae":
        latents = torch.randn(1, 4, 64, 64)
        call = lambda: model.decode(latents, return_dict=False)
    else:
        call = lambda: model.decode(torch.randn(1, 16, 5, 32, 32), return_dict=False)
    before, _ = memory()
    forget_peak()
    wall, busy = best(rounds, call)
    told = {"ms": round(wall, 3), "cpu_ms": round(busy, 3), "resident_bytes": resident - bare,
            "loading_peak_bytes": peak - bare, "work_bytes": memory()[1] - before}
    if network == "wan_vae":
        before, _ = memory()
        forget_peak()
        model.decode(torch.randn(1, 16, 9, 32, 32), return_dict=False)
        told["longer_bytes"] = memory()[1] - before
    return told


def main():
    match sys.argv[1:]:
        case ["make", folder]:
            for network in ("unet", "vae", "wan_vae"):
                build(network).to(torch.bfloat16).save_pretrained(Path(folder) / network)
        case ["time", network, folder, rounds]:
            print(json.dumps(measure(network, Path(folder), int(rounds))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
