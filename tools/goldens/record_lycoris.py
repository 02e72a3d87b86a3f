#!/usr/bin/env python3
"""Adapters of LyCORIS' rarer kinds (OFT, BOFT, GLoRA, (IA)³) on layers of recorded tiny models, and the weights that LyCORIS'
own modules make of them:

    record_lycoris.py tools/goldens/cases crates/kinora-diffusion/tests/fixtures/lycoris

Writes <case>_<name>.safetensors, the adapter as LyCORIS stores it, and <case>_<name>_merged.safetensors, the merged
weights of the same layers as replacements (.set_weight). Needs the package lycoris_lora."""
import sys
from pathlib import Path

import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
cases, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)


def module_of(weight):
    rows, columns, *kernel = weight.shape
    if kernel:
        module = torch.nn.Conv2d(columns, rows, kernel, padding=kernel[0] // 2, bias=False)
    else:
        module = torch.nn.Linear(columns, rows, bias=False)
    module.weight.copy_(weight)
    return module


def record(case, name, layers, make, weight=1.0, size=0.2):
    generator = torch.Generator().manual_seed(len(name) + 7)
    tensors, merged = {}, {}
    for key, w in layers.items():
        lycoris = make(key, module_of(w.float()))
        for parameter in lycoris.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * size
            # Factors of rows lie round 1, everything else round 0.
            centre = 1.0 if parameter is getattr(lycoris, "rescale", None) else 0.0
            parameter.copy_((centre + noise).to(torch.bfloat16).float())
        state = lycoris.custom_state_dict() if hasattr(lycoris, "custom_state_dict") else None
        state = state or lycoris.state_dict()
        for piece, tensor in state.items():
            tensors[f"{key}.{piece}"] = tensor.to(torch.bfloat16).contiguous() if tensor.is_floating_point() else tensor
        merged[f"{key}.set_weight"] = lycoris.get_merged_weight(weight)[0].reshape(w.shape).float().contiguous()
        assert (merged[f"{key}.set_weight"] - w.float()).abs().max() > 0.01, key
    save_file(tensors, out / f"{case}_{name}.safetensors")
    save_file(merged, out / f"{case}_{name}_merged.safetensors")


unet = load_file(cases / "sd15/model/unet/diffusion_pytorch_model.safetensors")
wanted = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2", "down_blocks.0.resnets.0.conv1", "down_blocks.0.attentions.0.proj_in"]
layers = {"lora_unet_" + n.replace(".", "_"): unet[f"{n}.weight"] for n in wanted}
oft = lambda **more: lambda key, m: DiagOFTModule(key, m, 1.0, lora_dim=4, **more)  # noqa: E731
boft = lambda **more: lambda key, m: ButterflyOFTModule(key, m, 1.0, lora_dim=4, **more)  # noqa: E731
glora = lambda key, m: GLoRAModule(key, m, 1.0, lora_dim=3, alpha=1.5)  # noqa: E731
ia3 = lambda on_input: lambda key, m: IA3Module(key, m, 1.0, train_on_input=on_input)  # noqa: E731
record("sd15", "oft", layers, oft(rescaled=True))
record("sd15", "oft_bounded", layers, oft(constraint=0.01), weight=0.7)
record("sd15", "boft", layers, boft(rescaled=True))
record("sd15", "boft_part", layers, boft(), weight=0.7)
record("sd15", "glora", layers, glora, weight=0.7)
record("sd15", "ia3", layers, ia3(False), weight=0.7)
record("sd15", "ia3_inputs", layers, ia3(True))

# Fused layers of the authors' names, which are three layers in the model.
flux = {}
for path in sorted((cases / "flux_dev/model/transformer").glob("*.safetensors")):
    flux |= load_file(path)
block = "transformer_blocks.0.attn"
qkv = torch.cat([flux[f"{block}.to_{n}.weight"].float() for n in "qkv"])
layers = {"lora_unet_double_blocks_0_img_attn_qkv": qkv}
record("flux", "oft", layers, oft(rescaled=True))
record("flux", "glora", layers, glora)
record("flux", "ia3", layers, ia3(False))
# One of its own, wide enough for several stages.
layers = {"lora_unet_double_blocks_0_img_attn_proj": flux[f"{block}.to_out.0.weight"]}
record("flux", "boft", layers, boft(rescaled=True))
record("flux", "boft_part", layers, boft(), weight=0.6)
