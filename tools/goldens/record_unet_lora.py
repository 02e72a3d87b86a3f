#!/usr/bin/env python3
"""Adapters of every kind on the tiny Stable Diffusion models of recorded cases, applied by the reference (diffusers with
peft):

    record_unet_lora.py tools/goldens/cases/sdxl crates/kinora-diffusion/tests/fixtures/unet_lora

Writes <case>_<name>.safetensors, the adapter as people have it, and <case>_expected.safetensors: what the UNet gives for
the inputs of the case's first call, and what the text encoders give for its prompts, with the adapters of each run
loaded. What the reference has no code for (Tucker cores of LoCon, lengths of columns, whole differences) is merged here
by the formulas of LyCORIS."""
import json, sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
case, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
golden = load_file(case / "golden.safetensors")
aliases = json.loads((case / "case.json").read_text())["aliases"]
is_xl = (case / "model" / "text_encoder_2").exists()


def recorded(name):
    name = name if name in golden else aliases.get(name)
    return golden.get(name)


def open_pipe():
    return DiffusionPipeline.from_pretrained(case / "model", torch_dtype=torch.float32)


def run(pipe):
    x = {n: recorded(f"unet.call0.in.{n}") for n in ("sample", "timestep", "encoder_hidden_states")}
    if is_xl:
        x["added_cond_kwargs"] = {n: recorded(f"unet.call0.in.added_cond_kwargs.{n}").float() for n in ("text_embeds", "time_ids")}
    result = {"unet": pipe.unet(**x, return_dict=False)[0]}
    ids = recorded("text_encoder.call0.in.input_ids")
    result["text"] = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
    if is_xl:
        second = pipe.text_encoder_2(recorded("text_encoder_2.call0.in.input_ids"), output_hidden_states=True)
        result["text_2"], result["projected"] = second.hidden_states[-2], second.text_embeds
    return {n: t.contiguous() for n, t in result.items()}


def numbers(*shape, seed, size=0.12):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size
    return x.to(torch.bfloat16)


def path(name):
    return out / f"{case.name}_{name}.safetensors"


def save(name, tensors, **metadata):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path(name), metadata=metadata or None)


expected = {}


def record(name, pipe):
    for part, tensor in run(pipe).items():
        # What nothing changed is stored once.
        if name == "none" or not torch.equal(tensor, expected[f"none.{part}"]):
            expected[f"{name}.{part}"] = tensor


pipe = open_pipe()
record("none", pipe)
layers = {n: m.weight for n, m in pipe.unet.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))}
encoders = {"text_encoder": pipe.text_encoder} | ({"text_encoder_2": pipe.text_encoder_2} if is_xl else {})
# The reference leaves out "text_model.", which every file has.
texts = {(e, n.removeprefix("text_model.")): m.weight for e, model in encoders.items() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layers." in n}


def factors(weight, rank, seed):
    """Down and up of a linear layer or a convolution, as every writer stores them."""
    rows, columns, *kernel = weight.shape
    return numbers(rank, columns, *kernel, seed=seed), numbers(rows, rank, *[1] * len(kernel), seed=seed + 5000)


# peft's names below those of diffusers: every linear layer and convolution, the text encoders' attention and MLP
tensors = {}
for i, (n, w) in enumerate(layers.items()):
    tensors[f"unet.{n}.lora_A.weight"], tensors[f"unet.{n}.lora_B.weight"] = factors(w, 2, i)
for i, ((e, n), w) in enumerate(texts.items()):
    tensors[f"{e}.text_model.{n}.lora_A.weight"], tensors[f"{e}.text_model.{n}.lora_B.weight"] = factors(w, 2, 2000 + i)
save("peft", tensors)


def to_ldm(name):
    """The authors' names of a UNet with two blocks a level, which kohya's files of SDXL have."""
    ends = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
            "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    if name in ends:
        return ends[name]
    inner = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    side, *rest = name.split(".")
    if side == "mid_block":
        kind, j, *rest = rest
        place = "middle_block." + {"resnets0": "0", "attentions0": "1", "resnets1": "2"}[kind + j]
    else:
        level, kind, j, *rest = rest
        level, j = int(level), int(j)
        if kind == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op"
        if kind == "upsamplers":
            has_attention = any(n.startswith(f"up_blocks.{level}.attentions") for n in layers)
            return f"output_blocks.{3 * level + 2}.{2 if has_attention else 1}.conv"
        index = 1 + 3 * level + j if side == "down_blocks" else 3 * level + j
        place = f"{'input' if side == 'down_blocks' else 'output'}_blocks.{index}.{0 if kind == 'resnets' else 1}"
    if kind == "resnets":
        rest = [inner[rest[0]]]
    return ".".join([place, *rest])


# kohya's names, with an alpha: the authors' blocks for SDXL, those of diffusers for the others
tensors = {}
titles = {"text_encoder": "te1" if is_xl else "te", "text_encoder_2": "te2"}
# Layers whose names in kohya's files the reference's converter does not know.
unknown = ("time_embedding.", "add_embedding.", "conv_in", "conv_out")
for i, (n, w) in enumerate(layers.items()):
    if n.startswith(unknown):
        continue
    key = "lora_unet_" + (to_ldm(n) if is_xl else n).replace(".", "_")
    tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = factors(w, 3, 100 + i)
    tensors[f"{key}.alpha"] = torch.tensor(1.5)
for i, ((e, n), w) in enumerate(texts.items()):
    key = f"lora_{titles[e]}_text_model_" + n.replace(".", "_")
    tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = factors(w, 3, 2100 + i)
    tensors[f"{key}.alpha"] = torch.tensor(1.5)
save("kohya", tensors)



def load(pipe, name):
    """Loads a file, and makes sure that the text encoders took its numbers."""
    pipe.load_lora_weights(path(name), adapter_name=name)
    for j, (e, n) in enumerate(texts):
        model = getattr(pipe, e)
        module = getattr(model, "text_model", model).get_submodule(n)
        weight = texts[e, n]
        down, up = factors(weight, 2, 2000 + j) if name == "peft" else factors(weight, 3, 2100 + j)
        assert torch.equal(module.lora_A[name].weight, down.float()) and torch.equal(module.lora_B[name].weight, up.float()), (e, n)


for name in ("peft", "kohya"):
    pipe = open_pipe()
    load(pipe, name)
    record(name, pipe)
pipe = open_pipe()
load(pipe, "peft")
load(pipe, "kohya")
pipe.set_adapters(["peft", "kohya"], [0.7, -0.4])
record("both", pipe)
if not is_xl:
    save_file(expected, path("expected"))
    sys.exit()


def inject(name, config):
    """An adapter of peft with numbers of ours; its tensors under peft's names without the adapter's."""
    pipe = open_pipe()
    inject_adapter_in_model(config, pipe.unet, adapter_name="default")
    state = {}
    for i, (n, p) in enumerate(sorted(pipe.unet.named_parameters())):
        if ".default" not in n and not any(part in n for part in ("hada_", "lokr_")):
            continue
        if "lora_magnitude" in n:
            p.copy_((p * (1 + 0.2 * torch.sin(torch.arange(p.numel()).float())).reshape(p.shape)).to(torch.bfloat16).float())
        else:
            p.copy_(numbers(*p.shape, seed=7000 + i).float() * (2.0 if "lok" in n or "hada" in n else 1.0))
        state[n] = p.clone()
    record(name, pipe)
    return state


targets = ["to_q", "to_v", "to_out.0", "proj_in", "ff.net.2", "conv1", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"]
half = lambda p: p.to(torch.bfloat16)
state = inject("dora", LoraConfig(r=2, lora_alpha=4, use_dora=True, target_modules=targets))
tensors = {}
for n, p in state.items():
    n = n.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector.weight")
    tensors["unet." + n.replace(".default", "")] = half(p)
save("dora", tensors, lora_adapter_metadata=json.dumps({"unet.lora_alpha": 4, "unet.r": 2, "unet.use_dora": True}))


def lycoris(state, alpha):
    tensors = {}
    for n, p in state.items():
        layer, piece = n.removesuffix(".default").rsplit(".", 1)
        key = "lora_unet_" + layer.replace(".", "_")
        if piece == "lokr_w1" and n.replace("lokr_w1", "lokr_w2") in state:
            # An alpha means nothing to two whole factors in LyCORIS; peft scales them all the same.
            p = p * (alpha / 2)
        tensors[f"{key}.{piece}"] = half(p)
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


for effective in (False, True):
    end = "_tucker" if effective else ""
    config = dict(r=2, alpha=4, target_modules=targets, init_weights=False, use_effective_conv2d=effective)
    save("loha" + end, lycoris(inject("loha" + end, LoHaConfig(**config)), 4.0))
    save("lokr" + end, lycoris(inject("lokr" + end, LoKrConfig(decompose_factor=4, **config)), 4.0))

# Tucker cores of LoCon: up and down are 1×1, the core has the kernel
pipe = open_pipe()
tensors = {}
for i, (n, m) in enumerate((n, m) for n, m in pipe.unet.named_modules() if n.endswith(("resnets.0.conv1", "downsamplers.0.conv"))):
    rows, columns, *kernel = m.weight.shape
    down, up, mid = numbers(3, columns, 1, 1, seed=8000 + i, size=0.4), numbers(rows, 3, 1, 1, seed=8100 + i, size=0.4), numbers(3, 3, *kernel, seed=8200 + i, size=0.4)
    key = "lora_unet_" + to_ldm(n).replace(".", "_")
    tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.lora_mid.weight": mid, f"{key}.alpha": torch.tensor(1.5)}
    m.weight.add_(0.5 * torch.einsum("abkl,bi,oa->oikl", mid.float(), down.float()[:, :, 0, 0], up.float()[:, :, 0, 0]))
save("locon_tucker", tensors)
record("locon_tucker", pipe)

# lengths of columns, as LyCORIS keeps them
pipe = open_pipe()
tensors = {}
for i, (n, m) in enumerate((n, m) for n, m in pipe.unet.named_modules() if n.endswith(("attn1.to_q", "resnets.0.conv1"))):
    rows, columns, *kernel = m.weight.shape
    down, up = factors(m.weight, 2, 8300 + i)
    changed = m.weight + 0.5 * (up.float().flatten(1) @ down.float().flatten(1)).reshape(m.weight.shape)
    norm = changed.transpose(0, 1).reshape(columns, -1).norm(dim=1).reshape(1, columns, *[1] * len(kernel))
    scale = half(norm * (1 + 0.2 * torch.cos(torch.arange(columns).float())).reshape(norm.shape))
    key = "lora_unet_" + to_ldm(n).replace(".", "_")
    tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.dora_scale": scale, f"{key}.alpha": torch.tensor(1.0)}
    m.weight.copy_(changed * (scale.float() / norm))
save("dora_columns", tensors)
record("dora_columns", pipe)

# whole differences, of a matrix, kernels, vectors and norms
pipe = open_pipe()
tensors = {}
for i, (n, piece) in enumerate([("down_blocks.1.attentions.0.proj_in", "diff"), ("down_blocks.1.attentions.0.proj_in", "diff_b"), ("mid_block.resnets.0.conv1", "diff"),
                                ("up_blocks.0.upsamplers.0.conv", "diff"), ("up_blocks.0.upsamplers.0.conv", "diff_b"), ("mid_block.attentions.0.transformer_blocks.0.norm1", "diff"),
                                ("up_blocks.1.resnets.0.norm2", "diff"), ("up_blocks.1.resnets.0.norm2", "diff_b")]):
    module = pipe.unet.get_submodule(n)
    p = module.weight if piece == "diff" else module.bias
    d = numbers(*p.shape, seed=9000 + i)
    p.add_(d.float())
    tensors[f"lora_unet_{n.replace('.', '_')}.{piece}"] = d
save("difference", tensors)
record("difference", pipe)
save_file(expected, path("expected"))
print({k: round(float((v - expected["none." + k.split(".")[1]]).abs().max()), 4) for k, v in expected.items()})
