#!/usr/bin/env python3
"""record_lora.py OUT.json.gz: adapters in every layout, put through the reference's own converters. Each case lists the
stored tensors (name, shape), the component's network (see manifests.py) and what the converter makes of them: canonical
module, piece, shape and CRC-32 of the f32 bytes. Element i of tensor N is the signed 16-bit number
((i * 2654435761 + crc32(N)) mod 2^32) >> 16, as f32; an alpha is its layer's rank, which changes nothing."""
import gzip
import json
import re
import sys
import zlib

import numpy as np
import torch
from diffusers.loaders import lora_conversion_utils as convert

RANK = 5


def numbers(name, shape):
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    values = ((index * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) % np.uint64(1 << 32)) >> np.uint64(16)
    return torch.from_numpy(values.astype(np.uint16).view(np.int16).astype(np.float32).reshape(shape))


def pairs(layers, down=".lora_down.weight", up=".lora_up.weight", alpha=".alpha", prefix=""):
    """layers: name -> (outputs, inputs)"""
    out = {}
    for name, (rows, columns, *kernel) in layers.items():
        out[f"{prefix}{name}{down}"] = [RANK, columns] + kernel
        out[f"{prefix}{name}{up}"] = [rows, RANK] + [1] * len(kernel)
        if alpha:
            out[f"{prefix}{name}{alpha}"] = []
    return out


H = 3072
FLUX = {"double_blocks.0.img_attn.qkv": (3 * H, H), "double_blocks.0.txt_attn.qkv": (3 * H, H), "double_blocks.0.img_attn.proj": (H, H),
        "double_blocks.0.txt_attn.proj": (H, H), "double_blocks.0.img_mlp.0": (4 * H, H), "double_blocks.0.img_mlp.2": (H, 4 * H),
        "double_blocks.0.txt_mlp.0": (4 * H, H), "double_blocks.0.txt_mlp.2": (H, 4 * H), "double_blocks.0.img_mod.lin": (6 * H, H),
        "double_blocks.0.txt_mod.lin": (6 * H, H), "single_blocks.0.linear1": (7 * H, H), "single_blocks.0.linear2": (H, 5 * H),
        "single_blocks.0.modulation.lin": (3 * H, H)}
FLUX_ENDS = {"final_layer.linear": (64, H), "final_layer.adaLN_modulation.1": (2 * H, H), "img_in": (H, 64), "txt_in": (H, 4096),
             "time_in.in_layer": (H, 256), "time_in.out_layer": (H, H), "vector_in.in_layer": (H, 768), "vector_in.out_layer": (H, H),
             "guidance_in.in_layer": (H, 256), "guidance_in.out_layer": (H, H)}
FLUX_CANONICAL = {"transformer_blocks.0.attn.to_q": (H, H), "transformer_blocks.0.attn.add_v_proj": (H, H), "transformer_blocks.0.attn.to_out.0": (H, H),
                  "transformer_blocks.0.ff.net.0.proj": (4 * H, H), "transformer_blocks.0.norm1.linear": (6 * H, H),
                  "single_transformer_blocks.0.proj_mlp": (4 * H, H), "single_transformer_blocks.0.attn.to_k": (H, H), "single_transformer_blocks.0.norm.linear": (3 * H, H)}
# Two converters ask for every block.
ALL = {n.replace(".0.", f".{b}.", 1): s for n, s in FLUX.items() for b in range(19 if n.startswith("double") else 38)}
flat = lambda layers: {name.replace(".", "_"): size for name, size in layers.items()}
W, F = 1536, 8960
WAN = {f"blocks.{b}.{a}.{n}": (W, W) for b in range(30) for a in ("self_attn", "cross_attn") for n in "qkvo"}
WAN |= {f"blocks.{b}.ffn.0": (F, W) for b in range(30)} | {f"blocks.{b}.ffn.2": (W, F) for b in range(30)}
WAN_2 = {n: s for n, s in WAN.items() if n.startswith(("blocks.0.", "blocks.1."))}
WAN_ENDS = {"time_projection.1": (6 * W, W), "head.head": (64, W), "text_embedding.0": (W, 4096), "text_embedding.2": (W, W), "time_embedding.0": (W, 256), "time_embedding.2": (W, W)}
I2V = 5120
WAN_I2V = {f"blocks.0.{a}.{n}": (I2V, I2V) for a in ("self_attn", "cross_attn") for n in "qkvo"} | {f"blocks.0.cross_attn.{n}": (I2V, I2V) for n in ("k_img", "v_img")}
WAN_I2V |= {"blocks.0.ffn.0": (13824, I2V), "blocks.0.ffn.2": (I2V, 13824)}
L2 = {"patchify_proj": (4096, 128), "adaln_single.linear": (24576, 4096), "transformer_blocks.0.attn1.to_q": (4096, 4096), "transformer_blocks.0.audio_to_video_attn.to_k": (2048, 2048),
      "transformer_blocks.0.audio_attn2.to_out.0": (2048, 2048), "transformer_blocks.0.ff.net.0.proj": (16384, 4096), "av_ca_a2v_gate_adaln_single.linear": (4096, 4096)}
SDXL_LDM = {"input_blocks_4_1_transformer_blocks_1_attn2_to_k": (640, 2048), "input_blocks_8_1_proj_in": (1280, 1280), "middle_block_1_transformer_blocks_9_ff_net_0_proj": (10240, 1280),
            "output_blocks_5_1_transformer_blocks_0_attn1_to_out_0": (640, 640), "output_blocks_2_2_conv": (1280, 1280, 3, 3), "input_blocks_3_0_op": (320, 320, 3, 3),
            "input_blocks_4_0_in_layers_2": (640, 320, 3, 3), "output_blocks_0_0_skip_connection": (1280, 2560, 1, 1), "input_blocks_7_0_emb_layers_1": (1280, 1280),
            "input_blocks_0_0": (320, 4, 3, 3), "time_embed_0": (1280, 320), "label_emb_0_2": (1280, 1280), "out_2": (4, 320, 3, 3)}
SD15 = {"down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v": (640, 768), "mid_block_attentions_0_proj_in": (1280, 1280, 1, 1), "up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2": (320, 1280),
        "up_blocks_1_resnets_2_conv1": (1280, 1920, 3, 3), "down_blocks_0_downsamplers_0_conv": (320, 320, 3, 3)}
CLIP = {"text_model_encoder_layers_0_self_attn_q_proj": (768, 768), "text_model_encoder_layers_11_mlp_fc1": (3072, 768), "text_model_encoder_layers_3_self_attn_out_proj": (768, 768)}
CLIP_G = {"text_model_encoder_layers_31_mlp_fc2": (1280, 5120), "text_model_encoder_layers_0_self_attn_v_proj": (1280, 1280)}
AB = dict(down=".lora_A.weight", up=".lora_B.weight", alpha=None)
UNET = type("Config", (), {"layers_per_block": 2})
unet = lambda state: convert._convert_non_diffusers_lora_to_diffusers(convert._maybe_map_sgm_blocks_to_diffusers(state, UNET))[0]
XLABS = {f"double_blocks.0.processor.{n}": s for n, s in {"qkv_lora1": (3 * H, H), "qkv_lora2": (3 * H, H), "proj_lora1": (H, H), "proj_lora2": (H, H)}.items()}
XLABS |= {"single_blocks.0.processor.qkv_lora": (3 * H, H), "single_blocks.0.processor.proj_lora": (H, 5 * H)}
biases = lambda layers, ending, prefix="": {f"{prefix}{name}{ending}": [size[0]] for name, size in layers.items()}
CONTROL = {**FLUX_ENDS, **ALL, "img_in": (H, 128)}
NORMS = {f"double_blocks.0.{side}_attn.norm.{n}_norm.scale": [128] for side in ("img", "txt") for n in ("query", "key")} | {f"single_blocks.0.norm.{n}_norm.scale": [128] for n in ("query", "key")}
NORMS = {n.replace(".0.", f".{b}.", 1): s for n, s in NORMS.items() for b in range(19 if n.startswith("double") else 38)}

CASES = {
    "kohya_flux": ("flux_dev", pairs(flat(FLUX | {n: s for n, s in FLUX_ENDS.items() if "guidance" not in n}), prefix="lora_unet_") | pairs(CLIP, prefix="lora_te1_"), convert._convert_kohya_flux_lora_to_diffusers),
    # The converter takes no feed-forward layers and norms of blocks: it gives them all one name.
    "onetrainer_flux": ("flux_dev", pairs(flat({n: s for n, s in FLUX_CANONICAL.items() if ".attn." in n}), prefix="lora_transformer_") | pairs(CLIP, prefix="lora_te1_"), convert._convert_kohya_flux_lora_to_diffusers),
    "xlabs_flux": ("flux_dev", pairs(XLABS, ".down.weight", ".up.weight", None), convert._convert_xlabs_flux_lora_to_diffusers),
    "bfl_control": ("flux_dev", pairs(CONTROL, **AB) | biases(CONTROL, ".lora_B.bias") | NORMS, convert._convert_bfl_flux_control_lora_to_diffusers),
    "fal_kontext": ("flux_dev", pairs(ALL | {"final_layer.linear": (64, H)}, prefix="base_model.model.", **AB), convert._convert_fal_kontext_lora_to_diffusers),
    "diffusers_flux": ("flux_dev", pairs(FLUX_CANONICAL, prefix="transformer.", **AB), None),
    "kohya_sdxl": ("sdxl", pairs(SDXL_LDM, prefix="lora_unet_") | pairs(CLIP, prefix="lora_te1_") | pairs(CLIP_G, prefix="lora_te2_"), unet),
    "kohya_sd15": ("sd15", pairs(SD15, prefix="lora_unet_") | pairs(CLIP, prefix="lora_te_"), unet),
    "wan_comfy": ("wan21_t2v_1b", pairs(WAN_2 | WAN_ENDS, prefix="diffusion_model.", **AB) | biases(WAN_2 | {n: s for n, s in WAN_ENDS.items()}, ".diff_b", "diffusion_model."), convert._convert_non_diffusers_wan_lora_to_diffusers),
    "wan_comfy_alpha": ("wan21_t2v_1b", pairs(WAN_2, prefix="diffusion_model."), convert._convert_non_diffusers_wan_lora_to_diffusers),
    "wan_i2v": ("wan21_i2v_14b", pairs(WAN_I2V | {"img_emb.proj.1": (1280, 1280), "img_emb.proj.3": (I2V, 1280)}, prefix="diffusion_model.", **AB), convert._convert_non_diffusers_wan_lora_to_diffusers),
    "wan_musubi": ("wan21_t2v_1b", pairs(flat(WAN_2), prefix="lora_unet_"), convert._convert_musubi_wan_lora_to_diffusers),
    "wan_bare": ("wan21_t2v_1b", pairs(WAN_2, ".lora_A.default.weight", ".lora_B.default.weight", None), lambda state: convert._convert_non_diffusers_wan_lora_to_diffusers({"diffusion_model." + n.replace(".default", ""): t for n, t in state.items()})),
    "ltx": ("ltx_2b", pairs({"transformer_blocks.3.attn1.to_q": (2048, 2048), "transformer_blocks.3.ff.net.2": (2048, 8192)}, prefix="diffusion_model.", **AB), convert._convert_non_diffusers_ltxv_lora_to_diffusers),
    "ltx2": ("ltx2", pairs(L2, prefix="diffusion_model.", **AB), convert._convert_non_diffusers_ltx2_lora_to_diffusers),
    "ltx2_connectors": ("ltx2", pairs({"aggregate_embed": (3840, 188160)}, prefix="text_embedding_projection.", **AB), lambda state: convert._convert_non_diffusers_ltx2_lora_to_diffusers(state, "text_embedding_projection")),
}


def parse(name):
    """A converted name as (component, module, piece)."""
    component = "denoiser"
    for prefix, title in [("text_encoder_2.", "text_encoder_2"), ("text_encoder.", "text_encoder"), ("connectors.", "connectors"), ("transformer.", "denoiser"), ("unet.", "denoiser")]:
        if name.startswith(prefix):
            component, name = title, name.removeprefix(prefix)
            break
    for ending, piece in [(".lora_A.weight", "down"), (".lora_B.weight", "up"), (".lora_B.bias", "bias"), (".lora.down.weight", "down"), (".lora.up.weight", "up"), ("_lora.down.weight", "down"),
                          ("_lora.up.weight", "up"), (".lora_linear_layer.down.weight", "down"), (".lora_linear_layer.up.weight", "up"), (".lora_A.bias", "bias"), (".weight", "set")]:
        if name.endswith(ending):
            module = name.removesuffix(ending).replace(".processor.", ".").removeprefix("text_model.")
            module = re.sub(r"\.to_out$", ".to_out.0", module)
            if component.startswith("text"):
                module = re.sub(r"self_attn\.to_([qkv])$", r"self_attn.\1_proj", module).replace("self_attn.to_out.0", "self_attn.out_proj")
            return component, module, piece
    raise ValueError(name)


def record(network, tensors, converter):
    state = {name: torch.tensor(float(RANK)) if name.endswith(".alpha") else numbers(name, shape) for name, shape in tensors.items()}
    converted = converter(dict(state)) if converter else state
    expected = []
    for name, tensor in converted.items():
        component, module, piece = parse(name)
        if (module, piece) == ("norm_out.linear", "down"):
            # The converters swap halves of both factors, where only the outputs have halves.
            source = next(n for n in state if "adaLN_modulation" in n and re.search("lora_(A|down)", n))
            tensor = state[source]
        tensor = tensor.float().contiguous()
        expected.append([component, module, piece, list(tensor.shape), zlib.crc32(tensor.numpy().tobytes())])
    return {"network": network, "stored": tensors, "expected": sorted(expected)}


cases = {}
for title, case in CASES.items():
    cases[title] = record(*case)
    print(title, len(cases[title]["stored"]), "->", len(cases[title]["expected"]))
with open(sys.argv[1], "wb") as out:
    out.write(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), 9, mtime=0))
