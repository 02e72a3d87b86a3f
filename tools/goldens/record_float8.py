#!/usr/bin/env python3
"""record_float8.py OUT.safetensors: all 256 bytes in each 8-bit float format, and what PyTorch makes of them as f32."""
import sys

import torch
from safetensors.torch import save_file

tensors = {}
for name in ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]:
    numbers = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    tensors[name] = numbers
    tensors[name + ".expected"] = numbers.float()
save_file(tensors, sys.argv[1])
