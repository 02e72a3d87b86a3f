#!/usr/bin/env python3
"""Pairs of adapters on the tiny Wan 2.2 of a recorded case, applied by the reference (diffusers with peft):

    record_wan_lora.py tools/goldens/cases/wan22_t2v_a14b crates/kinora-diffusion/tests/fixtures/wan_lora

Writes <pair>_<high|low>.safetensors, the adapters as people have them, one for each expert, and expected.safetensors: what
each expert gives for the inputs of its first call with no adapter, with each pair, and with four pairs at once."""
import json, sys
from pathlib import Path

import torch
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
case, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
golden = load_file(case / "golden.safetensors")
aliases = json.loads((case / "case.json").read_text())["aliases"]
EXPERTS = {"high": "transformer", "low": "transformer_2"}
# Weights of the four pairs, those of the first expert and those of the second.
WEIGHTS = {"comfy": (1.0, 0.8), "musubi": (0.7, -0.5), "bare": (0.4, 1.2), "diffusers": (-0.6, 0.9)}


def recorded(name):
    return golden[name if name in golden else aliases[name]].float()


def open_pipe():
    return WanPipeline.from_pretrained(case / "model", torch_dtype=torch.float32)


expected = {}


def record(name, pipe):
    for expert, part in EXPERTS.items():
        x = {n: recorded(f"{part}.call0.in.{n}") for n in ("hidden_states", "encoder_hidden_states", "timestep")}
        expected[f"{name}.{expert}"] = getattr(pipe, part)(**x, return_dict=False)[0].contiguous()


def numbers(*shape, seed):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.12).to(torch.bfloat16)


pipe = open_pipe()
record("none", pipe)
config = pipe.transformer.config
W, F, L = config.num_attention_heads * config.attention_head_dim, config.ffn_dim, config.num_layers
upstream = {f"blocks.{b}.{a}.{n}": (W, W) for b in range(L) for a in ("self_attn", "cross_attn") for n in "qkvo"}
upstream |= {f"blocks.{b}.ffn.0": (F, W) for b in range(L)} | {f"blocks.{b}.ffn.2": (W, F) for b in range(L)}
own = {n: tuple(m.weight.shape) for n, m in pipe.transformer.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("blocks.")}


def pairs(layers, seed, down, up, prefix="", alpha=None, join="."):
    tensors = {}
    for i, (n, (rows, columns)) in enumerate(layers.items()):
        key = prefix + n.replace(".", join)
        tensors[key + down], tensors[key + up] = numbers(2, columns, seed=seed + i), numbers(rows, 2, seed=seed + 500 + i)
        if alpha:
            tensors[key + ".alpha"] = torch.tensor(alpha)
    return tensors


for e, expert in enumerate(EXPERTS):
    seed = 10_000 * e
    AB = dict(down=".lora_A.weight", up=".lora_B.weight")
    files = {
        "comfy": pairs(upstream, seed, prefix="diffusion_model.", **AB),
        "musubi": pairs(upstream, seed + 1000, ".lora_down.weight", ".lora_up.weight", prefix="lora_unet_", alpha=1.0, join="_"),
        "bare": pairs(upstream, seed + 2000, ".lora_A.default.weight", ".lora_B.default.weight"),
        "diffusers": pairs(own, seed + 3000, prefix="transformer.", **AB),
    }
    for name, tensors in files.items():
        save_file(tensors, out / f"{name}_{expert}.safetensors")


def load(pipe, name):
    for expert in EXPERTS:
        tensors = load_file(out / f"{name}_{expert}.safetensors")
        if name == "bare":
            tensors = {"diffusion_model." + n.replace(".default", ""): t for n, t in tensors.items()}
        pipe.load_lora_weights(tensors, adapter_name=name, load_into_transformer_2=expert == "low")


for name in WEIGHTS:
    pipe = open_pipe()
    load(pipe, name)
    record(name, pipe)
pipe = open_pipe()
for name in WEIGHTS:
    load(pipe, name)
for (expert, part), place in zip(EXPERTS.items(), (0, 1)):
    getattr(pipe, part).set_adapters(list(WEIGHTS), [weights[place] for weights in WEIGHTS.values()])
record("all", pipe)
save_file(expected, out / "expected.safetensors")
print({k: round(float((v - expected["none." + k.split(".")[1]]).abs().max()), 4) for k, v in expected.items()})
