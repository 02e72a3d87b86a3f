#!/usr/bin/env python3
"""An adapter on the tiny LTX-Video or LTX-2 of a recorded case, applied by the reference (diffusers with peft):

    record_ltx_lora.py tools/goldens/cases/ltx2 crates/kinora-diffusion/tests/fixtures/ltx_lora

Writes <case>.safetensors, the adapter under the names that people have, and <case>_expected.safetensors: what the
transformer, and for LTX-2 the connectors, give for the inputs of the case's first call."""
import json, sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
case, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
golden = load_file(case / "golden.safetensors")
about = json.loads((case / "case.json").read_text())
is_two = (case / "model" / "connectors").exists()


def recorded(part):
    """Every input of a part's first call."""
    start = f"{part}.call0.in."
    names = {n: n for n in golden if n.startswith(start)} | {n: g for n, g in about["aliases"].items() if n.startswith(start)}
    inputs = {n.removeprefix(start): golden[g] for n, g in names.items()}
    return inputs | {n.removeprefix(start): v for n, v in about["scalars"].items() if n.startswith(start)}


def run(pipe):
    x = recorded("transformer")
    if not is_two:
        pixels = pipe.vae_spatial_compression_ratio
        x["rope_interpolation_scale"] = (pipe.vae_temporal_compression_ratio / about["inputs"]["frame_rate"], pixels, pixels)
    results = pipe.transformer(**{n: t.float() if torch.is_tensor(t) and t.is_floating_point() else t for n, t in x.items()}, return_dict=False)
    return [t.contiguous() for t in results[:2 if is_two else 1]]


def numbers(*shape, seed):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.12).to(torch.bfloat16)


pipe = DiffusionPipeline.from_pretrained(case / "model", torch_dtype=torch.float32)
expected = {f"none.{i}": t for i, t in enumerate(run(pipe))}
# Every input was recorded.
out_names = ["transformer.call0.out.0", "transformer.call0.out.1"] if is_two else ["transformer.call0.out"]
for i, n in enumerate(out_names):
    assert torch.allclose(expected[f"none.{i}"], golden[n], atol=1e-5), n
tensors = {}
linears = [(n, m.weight) for n, m in pipe.transformer.named_modules() if isinstance(m, torch.nn.Linear)]
for i, (n, w) in enumerate(linears):
    rows, columns = w.shape
    tensors[f"transformer.{n}.lora_A.weight"], tensors[f"transformer.{n}.lora_B.weight"] = numbers(2, columns, seed=i), numbers(rows, 2, seed=1000 + i)
path = out / f"{case.name}.safetensors"
save_file(tensors, path)
pipe.load_lora_weights(path)
expected |= {f"lora.{i}": t for i, t in enumerate(run(pipe))}
save_file(expected, out / f"{case.name}_expected.safetensors")
print({k: round(float((v - expected["none." + k.split(".")[1]]).abs().max()), 4) for k, v in expected.items()})
