#!/usr/bin/env python3
"""shapes.py OUT.json: names and shapes of the full-size networks of FLUX.1, from the reference library's own classes
built without memory (on the meta device) with the published configurations. No weights are involved."""
import json
import sys

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel


def table(network):
    tied = set(getattr(network, "_tied_weights_keys", None) or ())
    return {name: list(t.shape) for name, t in network.state_dict().items() if name not in tied}


with torch.device("meta"):
    networks = {
        "flux_schnell": FluxTransformer2DModel(guidance_embeds=False),
        "flux_dev": FluxTransformer2DModel(guidance_embeds=True),
        "clip_l": CLIPTextModel(CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu")),
        "t5_xxl": T5EncoderModel(T5Config(
            vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
            feed_forward_proj="gated-gelu", is_encoder_decoder=False)),
        "vae": AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, layers_per_block=2, norm_num_groups=32,
            use_quant_conv=False, use_post_quant_conv=False),
    }
with open(sys.argv[1], "w") as out:
    parts = [f"{json.dumps(name)}: {json.dumps(table(network), separators=(',', ':'))}" for name, network in networks.items()]
    out.write("{" + ",\n".join(parts) + "}\n")
