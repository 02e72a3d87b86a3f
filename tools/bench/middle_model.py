#!/usr/bin/env python3
"""middle_model.py STARTER OUT [--heads 8] [--blocks 2,4] [--f32]: a model of middle size with random weights, for
timing only: a FLUX.1 transformer of width 1024 (128 for each head) with 2 + 4 blocks in bf16, its VAE at half width, the
starter's text encoders and tokenizers."""
import argparse
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import diffusers
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel

diffusers.logging.set_verbosity_error()
torch.manual_seed(0)
ap = argparse.ArgumentParser(description=__doc__)
ap.add_argument("starter")
ap.add_argument("out")
ap.add_argument("--heads", type=int, default=8)
ap.add_argument("--blocks", default="2,4")
ap.add_argument("--f32", action="store_true", help="store the transformer in f32")
a = ap.parse_args()
joint, single = map(int, a.blocks.split(","))
pipe = FluxPipeline.from_pretrained(a.starter, torch_dtype=torch.bfloat16)
pipe.transformer = FluxTransformer2DModel(
    in_channels=64, num_layers=joint, num_single_layers=single, attention_head_dim=128, num_attention_heads=a.heads,
    joint_attention_dim=pipe.text_encoder_2.config.d_model, pooled_projection_dim=pipe.text_encoder.config.hidden_size,
    guidance_embeds=False, axes_dims_rope=(16, 56, 56)).to(torch.float32 if a.f32 else torch.bfloat16)
pipe.vae = AutoencoderKL(
    block_out_channels=(64, 128, 256, 256), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    latent_channels=16, layers_per_block=2, norm_num_groups=32, use_quant_conv=False, use_post_quant_conv=False,
    scaling_factor=0.3611, shift_factor=0.1159).to(torch.bfloat16)
pipe.save_pretrained(a.out)
