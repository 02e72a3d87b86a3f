#!/usr/bin/env python3
"""manifests.py OUT_FOLDER: what full-size checkpoints hold, and how the reference renames them. No weights are involved.

manifests.json.gz  "networks": names and shapes of every network, from the reference's own classes on the meta device.
                   "files": names and shapes of published single files, as parts (prefix, layout, network) and extras.
                   Names are folded: [name with its first number as {}, shape, [numbers]].
conversions.json.gz  the same files with small made-up tensors, put through the reference's own converters: each target
                   with its shape and the CRC-32 of its bytes. Element i of source tensor N is the 16-bit number
                   ((i * 2654435761 + crc32(N)) mod 2^32) >> 16.
"""
import gzip
import json
import re
import sys
import zlib

import numpy as np
import torch
from diffusers import (AutoencoderKL, AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, AutoencoderKLLTXVideo, AutoencoderKLWan,
                       FluxTransformer2DModel, LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel, UNet2DConditionModel,
                       WanTransformer3DModel)
from diffusers.loaders import single_file_utils as single
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection,
                          Gemma3TextConfig, Gemma3TextModel, SiglipVisionConfig, SiglipVisionModel, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel)

CROSS, PLAIN = "CrossAttn", ""


def unet(levels, cross, layers, heads, **more):
    return UNet2DConditionModel(
        block_out_channels=[320 * m for m in levels], cross_attention_dim=cross, attention_head_dim=heads,
        down_block_types=[f"{'CrossAttn' if d else ''}DownBlock2D" for d in layers],
        up_block_types=[f"{'CrossAttn' if d else ''}UpBlock2D" for d in reversed(layers)],
        transformer_layers_per_block=[max(d, 1) for d in layers], layers_per_block=2, **more)


def sdxl(channels=4):
    return unet([1, 2, 4], 2048, [0, 2, 10], [5, 10, 20], in_channels=channels, use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)


def kl(latents=4, quant=True):
    return AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
                         up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=latents, layers_per_block=2,
                         use_quant_conv=quant, use_post_quant_conv=quant)


def clip(hidden, layers, heads, projection):
    # SD 2.x uses neither the projection nor the last of the 24 blocks that its files hold.
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(CLIPTextConfig(
        vocab_size=49408, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=77, projection_dim=projection or hidden))


def wan(hidden=5120, ffn=13824, layers=40, channels=16, out=16, image=False, pos=None):
    return WanTransformer3DModel(
        num_attention_heads=hidden // 128, attention_head_dim=128, in_channels=channels, out_channels=out, ffn_dim=ffn,
        num_layers=layers, image_dim=1280 if image else None, added_kv_proj_dim=hidden if image else None,
        pos_embed_seq_len=pos)


LTX_VAE_095 = dict(
    block_out_channels=(128, 256, 512, 1024, 2048), down_block_types=("LTXVideo095DownBlock3D",) * 4,
    decoder_block_out_channels=(256, 512, 1024), layers_per_block=(4, 6, 6, 2, 2), decoder_layers_per_block=(5, 5, 5, 5),
    spatio_temporal_scaling=(True,) * 4, decoder_spatio_temporal_scaling=(True,) * 3,
    decoder_inject_noise=(False,) * 4, downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    upsample_residual=(True,) * 3, upsample_factor=(2,) * 3, timestep_conditioning=True)
LTX_VAE_091 = dict(
    decoder_block_out_channels=(256, 512, 1024), decoder_layers_per_block=(5, 6, 7, 8),
    decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(True, True, True, False),
    upsample_residual=(True,) * 3, upsample_factor=(2,) * 3, timestep_conditioning=True)
LTX_23 = dict(gated_attn=True, cross_attn_mod=True, audio_gated_attn=True, audio_cross_attn_mod=True,
              use_prompt_embeddings=False, perturbed_attn=True)

NETWORKS = {
    "sd15": lambda: unet([1, 2, 4, 4], 768, [1, 1, 1, 0], 8),
    "sd15_inpaint": lambda: unet([1, 2, 4, 4], 768, [1, 1, 1, 0], 8, in_channels=9),
    "sd21": lambda: unet([1, 2, 4, 4], 1024, [1, 1, 1, 0], [5, 10, 20, 20], use_linear_projection=True),
    "sd2_inpaint": lambda: unet([1, 2, 4, 4], 1024, [1, 1, 1, 0], [5, 10, 20, 20], use_linear_projection=True, in_channels=9),
    "sdxl": sdxl,
    "sdxl_inpaint": lambda: sdxl(9),
    "sdxl_refiner": lambda: UNet2DConditionModel(
        block_out_channels=[384, 768, 1536, 1536], cross_attention_dim=1280, attention_head_dim=[6, 12, 24, 24],
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        transformer_layers_per_block=4, layers_per_block=2, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2560),
    "vae_sd": kl,
    "vae_flux": lambda: kl(16, False),
    "clip_l": lambda: clip(768, 12, 12, None),
    "clip_h": lambda: clip(1024, 23, 16, None),
    "clip_g": lambda: clip(1280, 32, 20, 1280),
    "clip_vision_h": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
        projection_dim=1024)),
    "siglip_so400m": lambda: SiglipVisionModel(SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=384, patch_size=14)),
    "t5_xxl": lambda: T5EncoderModel(T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False)),
    "umt5_xxl": lambda: UMT5EncoderModel(UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False)),
    "gemma3_12b": lambda: Gemma3TextModel(Gemma3TextConfig(
        vocab_size=262208, hidden_size=3840, intermediate_size=15360, num_hidden_layers=48, num_attention_heads=16,
        num_key_value_heads=8, head_dim=256)),
    "flux_schnell": lambda: FluxTransformer2DModel(guidance_embeds=False),
    "flux_dev": lambda: FluxTransformer2DModel(guidance_embeds=True),
    "flux_fill": lambda: FluxTransformer2DModel(guidance_embeds=True, in_channels=384, out_channels=64),
    "flux_control": lambda: FluxTransformer2DModel(guidance_embeds=True, in_channels=128, out_channels=64),
    "flux_redux": ReduxImageEncoder,
    "wan21_t2v_1b": lambda: wan(1536, 8960, 30),
    "wan21_t2v_14b": wan,
    "wan21_i2v_14b": lambda: wan(channels=36, image=True),
    "wan21_flf2v_14b": lambda: wan(channels=36, image=True, pos=514),
    "wan22_i2v_a14b": lambda: wan(channels=36),
    "wan22_ti2v_5b": lambda: wan(3072, 14336, 30, 48, 48),
    "vae_wan21": AutoencoderKLWan,
    "vae_wan22": lambda: AutoencoderKLWan(
        base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
        temperal_downsample=[False, True, True]),
    "ltx_2b": LTXVideoTransformer3DModel,
    "ltx_13b": lambda: LTXVideoTransformer3DModel(num_layers=48, attention_head_dim=128, cross_attention_dim=4096),
    "vae_ltx": AutoencoderKLLTXVideo,
    "vae_ltx_091": lambda: AutoencoderKLLTXVideo(**LTX_VAE_091),
    "vae_ltx_095": lambda: AutoencoderKLLTXVideo(**LTX_VAE_095),
    "ltx2": LTX2VideoTransformer3DModel,
    "ltx23": lambda: LTX2VideoTransformer3DModel(**LTX_23),
    "ltx2_connectors": LTX2TextConnectors,
    "ltx23_connectors": lambda: LTX2TextConnectors(
        per_modality_projections=True, video_gated_attn=True, audio_gated_attn=True, video_connector_num_attention_heads=32,
        audio_connector_num_attention_heads=32, audio_connector_attention_head_dim=64, video_connector_num_layers=8,
        audio_connector_num_layers=8, proj_bias=True),
    "vae_ltx2": AutoencoderKLLTX2Video,
    "vae_ltx2_audio": AutoencoderKLLTX2Audio,
    "ltx2_vocoder": LTX2Vocoder,
    "ltx23_vocoder": LTX2VocoderWithBWE,
}


def shapes(network):
    tied = set(getattr(network, "_tied_weights_keys", None) or ())
    return {n: list(t.shape) for n, t in network.state_dict().items() if n not in tied and not n.endswith("position_ids")}


# ---- the reference's names to those of other layouts: the inverse of its converters, which check it below ----

def substitute(table):
    def invert(tables):
        out = {}
        for name, shape in tables.items():
            for pattern, by in table:
                name = re.sub(pattern, by, name)
            out[name] = shape
        return out
    return invert


RESNET = [(r"\.norm1\.", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."), (r"\.norm2\.", ".out_layers.0."),
          (r"\.conv2\.", ".out_layers.3."), ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]


def ldm_unet(tables):
    per = 3
    has_attention = lambda level: any(n.startswith(f"up_blocks.{level}.attentions") for n in tables)
    out = {}
    for name, shape in tables.items():
        if "resnets" in name:
            for pattern, by in RESNET:
                name = re.sub(pattern, by, name)
        def down(m):
            level, kind, at = int(m[1]), m[2], int(m[3])
            if kind == "downsamplers":
                return f"input_blocks.{(level + 1) * per}.0.op"
            return f"input_blocks.{1 + level * per + at}.{0 if kind == 'resnets' else 1}"
        def up(m):
            level, kind, at = int(m[1]), m[2], int(m[3])
            if kind == "upsamplers":
                return f"output_blocks.{level * per + 2}.{2 if has_attention(level) else 1}.conv"
            return f"output_blocks.{level * per + at}.{0 if kind == 'resnets' else 1}"
        name = re.sub(r"down_blocks\.(\d+)\.(\w+)\.(\d+)(\.conv(?=\.))?", lambda m: down(m) if m[2] == "downsamplers" else down(m) + (m[4] or ""), name)
        name = re.sub(r"up_blocks\.(\d+)\.(\w+)\.(\d+)(\.conv(?=\.))?", lambda m: up(m) if m[2] == "upsamplers" else up(m) + (m[4] or ""), name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", name)
        for pattern, by in [("mid_block.attentions.0", "middle_block.1"), ("time_embedding.linear_1", "time_embed.0"),
                            ("time_embedding.linear_2", "time_embed.2"), ("add_embedding.linear_1", "label_emb.0.0"),
                            ("add_embedding.linear_2", "label_emb.0.2"), (r"^conv_in\.", "input_blocks.0.0."),
                            ("conv_norm_out", "out.0"), ("conv_out", "out.2")]:
            name = re.sub(pattern, by, name)
        out[name] = shape
    return out


def ldm_vae(tables):
    out = {}
    for name, shape in tables.items():
        if "attentions" in name:
            for pattern, by in [("group_norm", "norm"), ("to_out.0", "proj_out"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v")]:
                name = name.replace(pattern, by)
            if len(shape) == 2:
                shape = shape + [1, 1]
        for pattern, by in [("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"),
                            (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
                            ("mid_block.attentions.0", "mid.attn_1"), (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
                            (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
                            (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block"),
                            (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample")]:
            name = re.sub(pattern, by, name)
        out[name] = shape
    return out


def open_clip(tables):
    out = {}
    for name, shape in tables.items():
        if name == "text_projection.weight":
            out["text_projection"] = shape[::-1]
            continue
        name = re.sub(r"^text_model\.", "", name)
        if (m := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name)):
            if m[2] == "q":
                out[f"transformer.resblocks.{m[1]}.attn.in_proj_{m[3]}"] = [3 * shape[0]] + shape[1:]
            continue
        for pattern, by in [(r"encoder\.layers\.", "transformer.resblocks."), ("final_layer_norm", "ln_final"), ("layer_norm", "ln_"),
                            (r"\.fc1\.", ".c_fc."), (r"\.fc2\.", ".c_proj."), (r"\.self_attn\.", ".attn."),
                            ("embeddings.token_embedding", "token_embedding"),
                            ("embeddings.position_embedding.weight", "positional_embedding")]:
            name = re.sub(pattern, by, name)
        out[name] = shape
    return out


def bfl(tables):
    fixed = {"time_text_embed.timestep_embedder.linear_1": "time_in.in_layer", "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
             "time_text_embed.text_embedder.linear_1": "vector_in.in_layer", "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
             "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
             "context_embedder": "txt_in", "x_embedder": "img_in", "norm_out.linear": "final_layer.adaLN_modulation.1"}
    double = {"norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin", "attn.to_q": "img_attn.qkv", "attn.add_q_proj": "txt_attn.qkv",
              "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj", "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
              "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2", "attn.norm_q": "img_attn.norm.query_norm",
              "attn.norm_k": "img_attn.norm.key_norm", "attn.norm_added_q": "txt_attn.norm.query_norm", "attn.norm_added_k": "txt_attn.norm.key_norm"}
    one = {"norm.linear": "modulation.lin", "attn.to_q": "linear1", "proj_out": "linear2", "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}
    out = {}
    for name, shape in tables.items():
        module, leaf = name.rsplit(".", 1)
        m = re.match(r"(single_)?transformer_blocks\.(\d+)\.(.*)", module)
        if m and m[1]:
            if m[3] not in one:
                continue
            source = f"single_blocks.{m[2]}.{one[m[3]]}"
            shape = [7 * shape[0]] + shape[1:] if m[3] == "attn.to_q" else shape
        elif m:
            if m[3] not in double:
                continue
            source = f"double_blocks.{m[2]}.{double[m[3]]}"
            shape = [3 * shape[0]] + shape[1:] if "qkv" in source else shape
        else:
            source = fixed.get(module, "final_layer.linear" if module == "proj_out" else module)
        out[f"{source}.{'scale' if source.endswith('_norm') else leaf}"] = shape
    return out


WAN = substitute([
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"), ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"), ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"), ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"), ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"), ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    (r"^scale_shift_table", "head.modulation"), ("^proj_out", "head.head"), ("scale_shift_table", "modulation"), ("attn1", "self_attn"),
    ("attn2", "cross_attn"), (r"to_out\.0", "o"), (r"\.to_q\.", ".q."), (r"\.to_k\.", ".k."), (r"\.to_v\.", ".v."), ("norm_added_k", "norm_k_img"),
    ("add_k_proj", "k_img"), ("add_v_proj", "v_img"), (r"ffn\.net\.0\.proj", "ffn.0"), (r"ffn\.net\.2", "ffn.2"), (r"\.norm2\.", ".norm3.")])

WAN_VAE_COMMON = [
    (r"^quant_conv", "conv1"), (r"^post_quant_conv", "conv2"), ("conv_in", "conv1"), (r"\.norm_out\.", ".head.0."), (r"\.conv_out\.", ".head.2."),
    (r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}"), ("mid_block.attentions.0", "middle.1"),
    (r"\.norm1\.", ".residual.0."), (r"(?<=\d)\.conv1\.", ".residual.2."), (r"\.norm2\.", ".residual.3."), (r"\.conv2\.", ".residual.6."), ("conv_shortcut", "shortcut")]
WAN_VAE_21 = substitute(WAN_VAE_COMMON + [
    (r"encoder\.down_blocks", "encoder.downsamples"), (r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.upsamples.{4 * int(m[1]) + int(m[2])}"),
    (r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.upsamples.{4 * int(m[1]) + 3}")])
WAN_VAE_22 = substitute(WAN_VAE_COMMON + [
    (r"down_blocks\.(\d)\.resnets", r"downsamples.\1.downsamples"), (r"down_blocks\.(\d)\.downsampler\.", r"downsamples.\1.downsamples.2."),
    (r"up_blocks\.(\d)\.resnets", r"upsamples.\1.upsamples"), (r"up_blocks\.(\d)\.upsampler\.", r"upsamples.\1.upsamples.3.")])

QK = [("norm_q", "q_norm"), ("norm_k", "k_norm")]
LTX = substitute([("^proj_in", "patchify_proj"), ("time_embed", "adaln_single")] + QK)
STATISTICS = [("latents_mean", "per_channel_statistics.mean-of-means"), ("latents_std", "per_channel_statistics.std-of-means")]
LTX_VAE_END = [("resnets", "res_blocks"), (r"conv_shortcut\.conv", "conv_shortcut"), ("norm3", "norm3.norm"),
               (r"decoder\.time_embedder", "decoder.last_time_embedder"), (r"decoder\.scale_shift_table", "decoder.last_scale_shift_table")] + STATISTICS


def blocks(side, table):
    return [(rf"{side}\.{re.escape(to)}\.", f"{side}.@{side == 'encoder' and 'down' or 'up'}_blocks.{at}.") for at, to in enumerate(table)]


def ltx_vae(encoder, decoder):
    # The longest first, so that a block does not take the names of its samplers.
    pairs = blocks("encoder", encoder) + blocks("decoder", decoder)
    return substitute(sorted(pairs, key=lambda pair: -len(pair[0])) + [("@", "")] + LTX_VAE_END)


D, U = "down_blocks", "up_blocks"
ENCODER_090 = [f"{D}.0", f"{D}.0.downsamplers.0", f"{D}.0.conv_out", f"{D}.1", f"{D}.1.downsamplers.0", f"{D}.1.conv_out", f"{D}.2",
               f"{D}.2.downsamplers.0", f"{D}.3", "mid_block"]
ENCODER_095 = [f"{D}.0", f"{D}.0.downsamplers.0", f"{D}.1", f"{D}.1.downsamplers.0", f"{D}.2", f"{D}.2.downsamplers.0", f"{D}.3", f"{D}.3.downsamplers.0", "mid_block"]
DECODER_090 = ["mid_block", f"{U}.0", f"{U}.1.upsamplers.0", f"{U}.1", f"{U}.2.conv_in", f"{U}.2.upsamplers.0", f"{U}.2", f"{U}.3.conv_in",
               f"{U}.3.upsamplers.0", f"{U}.3"]
DECODER_091 = ["mid_block", f"{U}.0.upsamplers.0", f"{U}.0", f"{U}.1.upsamplers.0", f"{U}.1", f"{U}.2.upsamplers.0", f"{U}.2", f"{U}.3.upsamplers.0", f"{U}.3"]
LTX2 = substitute([
    (r"^proj_in", "patchify_proj"), (r"^audio_proj_in", "audio_patchify_proj"), ("av_cross_attn_video_scale_shift", "av_ca_video_scale_shift_adaln_single"),
    ("av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"), ("av_cross_attn_audio_scale_shift", "av_ca_audio_scale_shift_adaln_single"),
    ("av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"), ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
    ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"), (r"prompt_adaln\.", "prompt_adaln_single."), (r"^time_embed\.", "adaln_single."), (r"^audio_time_embed\.", "audio_adaln_single.")] + QK)


def connectors(tables):
    out = {}
    for name, shape in substitute(QK)(tables).items():
        for pattern, by in [(r"^(video|audio)_connector\.", r"model.diffusion_model.\1_embeddings_connector."), (r"connector\.transformer_blocks", "connector.transformer_1d_blocks"),
                            (r"^text_proj_in", "text_embedding_projection.aggregate_embed"), (r"^(video|audio)_text_proj_in", r"text_embedding_projection.\1_aggregate_embed")]:
            name = re.sub(pattern, by, name)
        out[name] = shape
    return out


VOCODER = substitute([("upsamplers", "ups"), ("resnets", "resblocks"), ("conv_in", "conv_pre"), ("conv_out", "conv_post"), ("act_out", "act_post"),
                      (r"downsample\.filter", "downsample.lowpass.filter")])
LAYOUTS = {
    "canonical": lambda tables: dict(tables), "ldm_unet": ldm_unet, "ldm_vae": ldm_vae, "open_clip": open_clip, "bfl": bfl, "wan": WAN,
    "wan_vae_21": WAN_VAE_21, "wan_vae_22": WAN_VAE_22, "ltx": LTX, "ltx_vae": ltx_vae(ENCODER_090, DECODER_090),
    "ltx_vae_091": ltx_vae(ENCODER_090, DECODER_091), "ltx_vae_095": ltx_vae(ENCODER_095, DECODER_091), "ltx2": LTX2, "connectors": connectors,
    "ltx2_vae": ltx_vae(ENCODER_095, DECODER_091), "audio_vae": substitute(STATISTICS), "vocoder": VOCODER,
    "text_model": substitute([(r"^(?!text_|visual_|vision_)", "text_model.")]),
    "vision_model": substitute([(r"^(?!visual_|vision_)", "vision_model.")]),
}

UNET, COMFY = "model.diffusion_model.", "model.diffusion_model."
SCHEDULE = {n: [1000] for n in ["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "log_one_minus_alphas_cumprod"]}
LAST = "cond_stage_model.model.transformer.resblocks.23."
SD2 = {"cond_stage_model.model.logit_scale": [], "cond_stage_model.model.text_projection": [1024, 1024],
       LAST + "attn.in_proj_weight": [3072, 1024], LAST + "attn.in_proj_bias": [3072], LAST + "attn.out_proj.weight": [1024, 1024],
       LAST + "attn.out_proj.bias": [1024], LAST + "mlp.c_fc.weight": [4096, 1024], LAST + "mlp.c_fc.bias": [4096],
       LAST + "mlp.c_proj.weight": [1024, 4096], LAST + "mlp.c_proj.bias": [1024], LAST + "ln_1.weight": [1024], LAST + "ln_1.bias": [1024],
       LAST + "ln_2.weight": [1024], LAST + "ln_2.bias": [1024]}
FILES = {
    "sd15": ([(UNET, "ldm_unet", "sd15"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("cond_stage_model.transformer.", "text_model", "clip_l")],
             {**SCHEDULE, "model_ema.decay": [], "cond_stage_model.transformer.text_model.embeddings.position_ids": [1, 77]}),
    "sd15_inpaint": ([(UNET, "ldm_unet", "sd15_inpaint"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("cond_stage_model.transformer.", "text_model", "clip_l")], SCHEDULE),
    "sd21": ([(UNET, "ldm_unet", "sd21"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("cond_stage_model.model.", "open_clip", "clip_h")],
             {**SCHEDULE, **SD2}),
    "sd21_ztsnr": ([(UNET, "ldm_unet", "sd21"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("cond_stage_model.model.", "open_clip", "clip_h")],
                   {"v_pred": [0], "ztsnr": [0], **SD2}),
    "sd2_inpaint": ([(UNET, "ldm_unet", "sd2_inpaint"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("cond_stage_model.model.", "open_clip", "clip_h")], {**SCHEDULE, **SD2}),
    "sdxl": ([(UNET, "ldm_unet", "sdxl"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("conditioner.embedders.0.transformer.", "text_model", "clip_l"),
              ("conditioner.embedders.1.model.", "open_clip", "clip_g")], {"conditioner.embedders.1.model.logit_scale": []}),
    "sdxl_vpred": ([(UNET, "ldm_unet", "sdxl"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("conditioner.embedders.0.transformer.", "text_model", "clip_l"),
                    ("conditioner.embedders.1.model.", "open_clip", "clip_g")], {"v_pred": [0], "ztsnr": [0]}),
    "sdxl_inpaint": ([(UNET, "ldm_unet", "sdxl_inpaint")], {}),
    "sdxl_refiner": ([(UNET, "ldm_unet", "sdxl_refiner"), ("first_stage_model.", "ldm_vae", "vae_sd"), ("conditioner.embedders.0.model.", "open_clip", "clip_g")], {}),
    "flux_schnell": ([("", "bfl", "flux_schnell")], {}),
    "flux_dev": ([("", "bfl", "flux_dev")], {}),
    "flux_dev_comfy": ([(COMFY, "bfl", "flux_dev")], {}),
    "flux_dev_all": ([(COMFY, "bfl", "flux_dev"), ("vae.", "ldm_vae", "vae_flux"), ("text_encoders.clip_l.transformer.", "text_model", "clip_l"),
                      ("text_encoders.t5xxl.transformer.", "canonical", "t5_xxl")], {"text_encoders.clip_l.logit_scale": []}),
    "flux_fill": ([("", "bfl", "flux_fill")], {}),
    "flux_control": ([("", "bfl", "flux_control")], {}),
    "flux_redux": ([("", "canonical", "flux_redux")], {}),
    "flux_vae": ([("", "ldm_vae", "vae_flux")], {}),
    "sd_vae": ([("first_stage_model.", "ldm_vae", "vae_sd")], {}),
    **{name: ([("", "wan", name)], {}) for name in ["wan21_t2v_1b", "wan21_t2v_14b", "wan21_i2v_14b", "wan21_flf2v_14b", "wan22_i2v_a14b", "wan22_ti2v_5b"]},
    "wan21_i2v_14b_comfy": ([(COMFY, "wan", "wan21_i2v_14b")], {}),
    "wan21_vae": ([("", "wan_vae_21", "vae_wan21")], {}),
    "wan22_vae": ([("", "wan_vae_22", "vae_wan22")], {}),
    "ltx_2b_090": ([(COMFY, "ltx", "ltx_2b"), ("vae.", "ltx_vae", "vae_ltx")], {"vae.per_channel_statistics.mean-of-stds": [128], "vae.per_channel_statistics.channel": [128]}),
    "ltx_2b_091": ([(COMFY, "ltx", "ltx_2b"), ("vae.", "ltx_vae_091", "vae_ltx_091")], {"vae.per_channel_statistics.channel": [128]}),
    "ltx_2b_095": ([(COMFY, "ltx", "ltx_2b"), ("vae.", "ltx_vae_095", "vae_ltx_095")], {}),
    "ltx_13b_097": ([(COMFY, "ltx", "ltx_13b"), ("vae.", "ltx_vae_095", "vae_ltx_095")], {}),
    "ltx2": ([(COMFY, "ltx2", "ltx2"), ("", "connectors", "ltx2_connectors"), ("vae.", "ltx2_vae", "vae_ltx2"), ("audio_vae.", "audio_vae", "vae_ltx2_audio"),
              ("vocoder.", "vocoder", "ltx2_vocoder")], {}),
    "ltx23": ([(COMFY, "ltx2", "ltx23"), ("", "connectors", "ltx23_connectors"), ("vae.", "ltx2_vae", "vae_ltx2"), ("audio_vae.", "audio_vae", "vae_ltx2_audio"),
               ("vocoder.", "vocoder", "ltx23_vocoder")], {}),
    "clip_l": ([("", "text_model", "clip_l")], {}),
    "clip_g": ([("", "text_model", "clip_g")], {}),
    "clip_vision_h": ([("", "vision_model", "clip_vision_h")], {}),
    "siglip_so400m": ([("", "vision_model", "siglip_so400m")], {}),
    "t5_xxl": ([("", "canonical", "t5_xxl")], {}),
    "umt5_xxl": ([("", "canonical", "umt5_xxl")], {}),
    "gemma3_12b": ([("model.", "canonical", "gemma3_12b")], {}),
    **{f"{name}_diffusers": ([("", "canonical", name)], {}) for name in [
        "sd15", "sdxl", "flux_dev", "flux_fill", "wan21_i2v_14b", "wan22_ti2v_5b", "ltx_2b", "ltx2", "vae_sd", "vae_flux", "vae_wan21", "vae_wan22", "vae_ltx", "vae_ltx2"]},
}


def fold(tables):
    """[name with its first number as {}, shape, [numbers]]"""
    groups = {}
    for name, shape in tables.items():
        m = re.search(r"\d+", name)
        pattern = name if not m else name[:m.start()] + "{}" + name[m.end():]
        groups.setdefault((pattern, tuple(shape)), []).append(int(m[0]) if m else None)
    return [[pattern, list(shape), [] if numbers == [None] else numbers] for (pattern, shape), numbers in groups.items()]


# ---- conversions ----

def numbers(name, shape):
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    values = ((index * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) % np.uint64(1 << 32)) >> np.uint64(16)
    return torch.from_numpy(values.astype(np.uint16).view(np.int16).reshape(shape))


def small(shape):
    return [max(1, size // 128) for size in shape]


def convert(layout, prefix, network, source):
    state = {prefix + name: numbers(prefix + name, shape) for name, shape in source.items()}
    bare = lambda: {k[len(prefix):]: v for k, v in state.items()}
    if layout == "ldm_unet":
        config = {"layers_per_block": 2, "addition_embed_type": "text_time" if "xl" in network else None}
        return single.convert_ldm_unet_checkpoint(state, config)
    if layout == "ldm_vae":
        return single.convert_ldm_vae_checkpoint(state, {"down_block_types": [0] * 4, "up_block_types": [0] * 4})
    if layout == "open_clip":
        model = type("Model", (), {"config": type("Config", (), {"hidden_size": state[prefix + "ln_final.weight"].shape[0]})})
        return single.convert_open_clip_checkpoint(model, state, prefix=prefix)
    call = {"bfl": single.convert_flux_transformer_checkpoint_to_diffusers, "wan": single.convert_wan_transformer_to_diffusers,
            "wan_vae_21": single.convert_wan_vae_to_diffusers, "ltx": single.convert_ltx_transformer_checkpoint_to_diffusers,
            "ltx_vae": single.convert_ltx_vae_checkpoint_to_diffusers, "ltx_vae_091": single.convert_ltx_vae_checkpoint_to_diffusers,
            "ltx_vae_095": single.convert_ltx_vae_checkpoint_to_diffusers, "ltx2": single.convert_ltx2_transformer_to_diffusers,
            "ltx2_vae": single.convert_ltx2_vae_to_diffusers, "audio_vae": single.convert_ltx2_audio_vae_to_diffusers}[layout]
    return call(bare() if layout == "wan_vae_21" else state)


CONVERSIONS = [("sd15", 0), ("sd15", 1), ("sd21", 0), ("sd21", 2), ("sdxl", 0), ("sdxl", 3), ("sdxl_refiner", 0), ("flux_dev", 0), ("wan21_i2v_14b", 0),
               ("wan21_vae", 0), ("ltx_2b_090", 0), ("ltx_2b_090", 1), ("ltx_2b_091", 1), ("ltx_2b_095", 1), ("ltx2", 0), ("ltx2", 2), ("ltx2", 3)]


def record_conversion(file, at, tables):
    prefix, layout, network = FILES[file][0][at]
    wanted = tables[network]
    if network.startswith("flux"):
        wanted = {n: s for n, s in wanted.items() if not re.search(r"blocks\.([1-9]\d*)\.", n)}
    if network.startswith("wan") or network.startswith("ltx"):
        wanted = {n: s for n, s in wanted.items() if not re.search(r"^(transformer_)?blocks\.([2-9]|\d\d)\.", n)}
    if layout == "open_clip":
        wanted = {n: s for n, s in wanted.items() if not re.search(r"layers\.([2-9]|\d\d)\.", n)}
    source = LAYOUTS[layout](wanted)
    if layout == "bfl":
        # The converter knows the width of the network.
        source = {n: [s[0]] + [1] * (len(s) - 1) for n, s in source.items()}
    elif layout in ("ltx_vae", "ltx_vae_091", "ltx_vae_095"):
        # The converter tells releases apart by this shape.
        source = {n: [2] + s[1:2] + [1, 1, 1] if n == "encoder.conv_out.conv.weight" else small(s) for n, s in source.items()}
    else:
        source = {n: small(s) for n, s in source.items()}
    converted = convert(layout, prefix, network, source)
    target = {}
    for name, tensor in converted.items():
        if layout == "open_clip":
            name = name.removeprefix("text_model.")
        tensor = tensor.contiguous()
        target[name] = [list(tensor.shape), zlib.crc32(tensor.numpy().tobytes())]
    missing, more = set(wanted) ^ set(wanted) & set(target), set(target) - set(wanted)
    assert not missing and not more, (file, layout, sorted(missing)[:5], sorted(more)[:5])
    return {"file": file, "layout": layout, "prefix": prefix, "network": network,
            "source": {prefix + n: s for n, s in source.items()}, "target": target}


def write(path, value):
    data = json.dumps(value, separators=(",", ":")).encode()
    with open(path, "wb") as out:
        out.write(gzip.compress(data, 9, mtime=0))
    print(path, len(data), "bytes unpacked")


def main(folder):
    tables = {}
    with torch.device("meta"):
        for name, make in NETWORKS.items():
            table = shapes(make())
            if name.startswith("clip"):
                table = {re.sub(r"^(text|vision)_model\.", "", n): s for n, s in table.items()}
            tables[name] = table
    files = {}
    for name, (parts, extras) in FILES.items():
        stored = dict(extras)
        for prefix, layout, network in parts:
            stored.update({prefix + n: s for n, s in LAYOUTS[layout](tables[network]).items()})
        files[name] = {"parts": parts, "stored": fold(stored)}
    write(f"{folder}/manifests.json.gz", {"networks": {n: fold(t) for n, t in tables.items()}, "files": files})
    write(f"{folder}/conversions.json.gz", [record_conversion(file, at, tables) for file, at in CONVERSIONS])


if __name__ == "__main__":
    main(sys.argv[1])
