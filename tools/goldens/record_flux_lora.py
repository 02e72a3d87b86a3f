#!/usr/bin/env python3
"""Adapters of every kind on the tiny FLUX.1 of a recorded case, applied by the reference (diffusers with peft):

    record_flux_lora.py tools/goldens/cases/flux_dev crates/kinora-diffusion/tests/fixtures/flux_lora

Writes <name>.safetensors, the adapter as people have it, and expected.safetensors: what the transformer gives for the
inputs of the case's first call, and what CLIP gives for its prompts, with the adapters of each run loaded."""
import json, sys
from pathlib import Path

import torch
from diffusers import FluxPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
case, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
golden = load_file(case / "golden.safetensors")
aliases = json.loads((case / "case.json").read_text())["aliases"]


def recorded(name):
    return golden[name if name in golden else aliases[name]]


def open_pipe():
    return FluxPipeline.from_pretrained(case / "model", torch_dtype=torch.float32)


def run(pipe):
    x = {n: recorded(f"transformer.call0.in.{n}").float() for n in ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep", "guidance", "img_ids", "txt_ids")}
    return (pipe.transformer(**x, return_dict=False)[0].contiguous(),
            pipe.text_encoder(recorded("text_encoder.call0.in.input_ids")).pooler_output.contiguous())


def numbers(*shape, seed):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.12
    return x.to(torch.bfloat16)


def save(name, tensors, **metadata):
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors", metadata=metadata or None)


expected = {}


def record(name, pipe):
    expected[f"{name}.transformer"], expected[f"{name}.pooled"] = run(pipe)


pipe = open_pipe()
record("none", pipe)
linears = {n: m for n, m in pipe.transformer.named_modules() if isinstance(m, torch.nn.Linear)}
shape = {n: tuple(m.weight.shape) for n, m in linears.items()}

# diffusers' own names, every linear layer of the transformer and CLIP's attention
tensors = {}
for i, (n, (o, k)) in enumerate(shape.items()):
    tensors[f"transformer.{n}.lora_A.weight"] = numbers(3, k, seed=i)
    tensors[f"transformer.{n}.lora_B.weight"] = numbers(o, 3, seed=1000 + i)
for i in range(2):
    for j, p in enumerate(("q_proj", "k_proj", "v_proj", "out_proj")):
        tensors[f"text_encoder.text_model.encoder.layers.{i}.self_attn.{p}.lora_A.weight"] = numbers(3, 24, seed=2000 + 10 * i + j)
        tensors[f"text_encoder.text_model.encoder.layers.{i}.self_attn.{p}.lora_B.weight"] = numbers(24, 3, seed=2100 + 10 * i + j)
save("diffusers", tensors)

# kohya: the authors' fused layers, with an alpha
D, S, H, M = 2, 2, 32, 128
tensors = {}


def kohya(name, o, k, seed, rank=4, alpha=2.0):
    tensors[f"lora_unet_{name}.lora_down.weight"] = numbers(rank, k, seed=seed)
    tensors[f"lora_unet_{name}.lora_up.weight"] = numbers(o, rank, seed=seed + 500)
    tensors[f"lora_unet_{name}.alpha"] = torch.tensor(alpha)


for b in range(D):
    for s, side in enumerate(("img", "txt")):
        base = 100 * b + 10 * s
        kohya(f"double_blocks_{b}_{side}_attn_qkv", 3 * H, H, base)
        kohya(f"double_blocks_{b}_{side}_attn_proj", H, H, base + 1)
        kohya(f"double_blocks_{b}_{side}_mlp_0", M, H, base + 2)
        kohya(f"double_blocks_{b}_{side}_mlp_2", H, M, base + 3)
        kohya(f"double_blocks_{b}_{side}_mod_lin", 6 * H, H, base + 4)
for b in range(S):
    kohya(f"single_blocks_{b}_linear1", 3 * H + M, H, 300 + 10 * b)
    kohya(f"single_blocks_{b}_linear2", H, H + M, 301 + 10 * b)
    kohya(f"single_blocks_{b}_modulation_lin", 3 * H, H, 302 + 10 * b)
save("kohya", tensors)


def load(pipe, name, weight=1.0):
    """The reference cuts linear1 at the full model's width only; here it is cut and merged by hand."""
    tensors = load_file(out / f"{name}.safetensors")
    by_hand = {k: tensors.pop(k) for k in list(tensors) if "_linear1." in k}
    pipe.load_lora_weights(tensors, adapter_name=name)
    for b in range(S if by_hand else 0):
        get = lambda piece: by_hand[f"lora_unet_single_blocks_{b}_linear1.{piece}"].float()
        delta = weight * get("alpha") / 4 * get("lora_up.weight") @ get("lora_down.weight")
        block = pipe.transformer.single_transformer_blocks[b]
        for m, d in zip((block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp), delta.split([H, H, H, M])):
            getattr(m, "base_layer", m).weight.add_(d)


for name in ("diffusers", "kohya"):
    pipe = open_pipe()
    load(pipe, name)
    record(name, pipe)
pipe = open_pipe()
load(pipe, "diffusers")
load(pipe, "kohya", -0.4)
pipe.set_adapters(["diffusers", "kohya"], [0.7, -0.4])
record("both", pipe)


def inject(name, config, targets):
    """An adapter of peft with numbers of ours; its tensors under peft's names without the adapter's."""
    pipe = open_pipe()
    inject_adapter_in_model(config, pipe.transformer, adapter_name="default")
    state = {}
    for i, (n, p) in enumerate(sorted(pipe.transformer.named_parameters())):
        if ".default" not in n and not any(part in n for part in ("hada_", "lokr_")):
            continue
        if "lora_magnitude" in n:
            p.copy_((p * (1 + 0.2 * torch.sin(torch.arange(p.numel()).float()))).to(torch.bfloat16).float())
        else:
            p.copy_(numbers(*p.shape, seed=7000 + i).float() * (2.0 if "lok" in n or "hada" in n else 1.0))
        state[n] = p.clone()
    record(name, pipe)
    return state


targets = ["to_q", "to_v", "add_k_proj", "to_out.0", "proj_mlp", "proj_out", "ff.net.2"]
half = lambda p: p.to(torch.bfloat16)
state = inject("dora", LoraConfig(r=3, lora_alpha=6, use_dora=True, target_modules=targets), targets)
tensors = {}
for n, p in state.items():
    n = n.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector.weight")
    tensors["transformer." + n.replace(".default", "")] = half(p)
save("dora", tensors, lora_adapter_metadata=json.dumps({"transformer.lora_alpha": 6, "transformer.r": 3, "transformer.use_dora": True}))


def lycoris(state, alpha):
    tensors = {}
    for n, p in state.items():
        layer, piece = n.removesuffix(".default").rsplit(".", 1)
        key = "lycoris_" + layer.replace(".", "_")
        tensors[f"{key}.{piece}"] = half(p)
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


save("loha", lycoris(inject("loha", LoHaConfig(r=2, alpha=4, target_modules=targets, init_weights=False), targets), 4.0))
save("lokr", lycoris(inject("lokr", LoKrConfig(r=2, alpha=4, target_modules=targets, init_weights=False, decompose_factor=4), targets), 4.0))

# whole differences, of a matrix, a vector and a norm
pipe = open_pipe()
tensors = {}
t = pipe.transformer
for i, (n, p, key) in enumerate([
    ("transformer_blocks.1.ff.net.2", t.transformer_blocks[1].ff.net[2].weight, "diff"),
    ("transformer_blocks.1.ff.net.2", t.transformer_blocks[1].ff.net[2].bias, "diff_b"),
    ("transformer_blocks.0.attn.to_k", t.transformer_blocks[0].attn.to_k.bias, "diff_b"),
    ("single_transformer_blocks.1.attn.norm_q", t.single_transformer_blocks[1].attn.norm_q.weight, "diff"),
    ("norm_out.linear", t.norm_out.linear.weight, "diff"),
]):
    d = numbers(*p.shape, seed=9000 + i)
    p.add_(d.float())
    tensors[f"diffusion_model.{n}.{key}"] = d
save("difference", tensors)
record("difference", pipe)
save_file(expected, out / "expected.safetensors")
print({k: round(float((v - expected["none." + k.split(".")[1]]).abs().max()), 4) for k, v in expected.items()})
