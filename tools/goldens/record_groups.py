#!/usr/bin/env python3
"""record_groups.py OUT.safetensors: matrices as ComfyUI's quantised files hold them (nvfp4, mxfp8, int8), quantised by
the package comfy_kitchen, and what it makes of them as f32. The same numbers are worked out a second time from the
format's definition and compared. Weights of which a part is padding have fewer rows and columns in `.expected`."""
import json
import sys

import comfy_kitchen as ck
import torch
from comfy_kitchen.tensor import TensorCoreMXFP8Layout, TensorCoreNVFP4Layout, TensorWiseINT8Layout
from safetensors.torch import save_file

ck.registry.disable("cuda")
generator = torch.Generator().manual_seed(5)
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def plain(packed, scales, length, levels):
    """By hand: the scale of row r and group g lies in tile (r / 128, g / 4) of 512 bytes, at (r % 32) * 16 +
    (r % 128 / 32) * 4 + g % 4."""
    rows, columns = levels.shape
    across = (columns // length + 3) // 4
    flat = scales.contiguous().view(torch.uint8).flatten()
    kind = scales.dtype
    r = torch.arange(rows).unsqueeze(1)
    g = torch.arange(columns // length).unsqueeze(0)
    at = (r // 128 * across + g // 4) * 512 + r % 32 * 16 + r % 128 // 32 * 4 + g % 4
    own = flat[at].view(kind).float()
    return levels * own.repeat_interleave(length, dim=1)


tensors, layers = {}, {}
for name, rows, columns in [("small", 32, 64), ("tiles", 144, 160), ("padded", 40, 72)]:
    weight = torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 0, columns)
    weight[3] = 0  # groups of zeros, whose scale is zero

    packed, params = TensorCoreNVFP4Layout.quantize(weight)
    expected = ck.dequantize_nvfp4(packed, params.scale, params.block_scale, torch.float32)
    nibbles = torch.stack([packed >> 4, packed & 15], dim=-1).flatten(1).long()
    levels = torch.tensor(E2M1 + [-level for level in E2M1])[nibbles]
    ours = plain(packed, params.block_scale, 16, levels)
    assert torch.allclose(ours * params.scale, expected, rtol=1e-6, atol=0)
    layer = f"nvfp4.{name}"
    layers[layer] = {"format": "nvfp4"}
    tensors[f"{layer}.weight"] = packed
    tensors[f"{layer}.weight_scale"] = params.block_scale
    tensors[f"{layer}.weight_scale_2"] = params.scale
    tensors[f"{layer}.expected"] = expected[:rows, :columns].contiguous()
    if name == "small":
        # Factors of the inputs: the product of the factored input is that of the factored columns.
        factors = torch.rand(columns, generator=generator).to(torch.bfloat16) + 0.5
        tensors[f"{layer}_inputs.weight"] = packed.clone()
        tensors[f"{layer}_inputs.weight_scale"] = params.block_scale.clone()
        tensors[f"{layer}_inputs.weight_scale_2"] = params.scale.clone()
        tensors[f"{layer}_inputs.pre_quant_scale"] = factors
        tensors[f"{layer}_inputs.expected"] = expected * factors.float()
        layers[f"{layer}_inputs"] = {"format": "nvfp4"}

    data, params = TensorCoreMXFP8Layout.quantize(weight)
    expected = ck.dequantize_mxfp8(data, params.scale, torch.float32)
    ours = plain(data, params.scale, 32, data.float())
    assert torch.equal(ours, expected)
    layer = f"mxfp8.{name}"
    layers[layer] = {"format": "mxfp8"}
    tensors[f"{layer}.weight"] = data
    # Files of both kinds are about: ComfyUI takes the bytes as they are.
    as_bytes = name == "small"
    tensors[f"{layer}.weight_scale"] = params.scale.view(torch.uint8) if as_bytes else params.scale
    tensors[f"{layer}.expected"] = expected[:rows, :columns].contiguous()

    for kind, by_row in [("int8", False), ("int8_rows", True)] if name == "small" else []:
        data, params = TensorWiseINT8Layout.quantize(weight, per_channel=by_row)
        layer = f"{kind}.{name}"
        layers[layer] = {"format": "int8_tensorwise"}
        tensors[f"{layer}.weight"] = data
        tensors[f"{layer}.weight_scale"] = params.scale
        tensors[f"{layer}.expected"] = data.float() * params.scale
save_file(tensors, sys.argv[1], metadata={"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})})
