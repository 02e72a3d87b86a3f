#!/usr/bin/env python3
"""record_gguf.py OUT.gguf (needs the packages gguf and numpy): a GGUF file with every block format, written by
the reference's own writer. Tensor X holds random blocks with sensible scales, tensor X.expected what the reference's
dequantisation makes of them, as f32. Also metadata of every kind, and a convolution with its original shape."""
import sys

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
rng = np.random.default_rng(7)
# Places of the scales inside a block: f16 unless told otherwise.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: []}

writer = gguf.GGUFWriter(sys.argv[1], "flux")
writer.add_uint8("k.u8", 200)
writer.add_int8("k.i8", -100)
writer.add_uint16("k.u16", 60000)
writer.add_int16("k.i16", -30000)
writer.add_uint32("k.u32", 4_000_000_000)
writer.add_int32("k.i32", -2_000_000_000)
writer.add_uint64("k.u64", 1 << 63)
writer.add_int64("k.i64", -(1 << 62))
writer.add_float32("k.f32", 0.5)
writer.add_float64("k.f64", 0.1)
writer.add_bool("k.bool", True)
writer.add_string("k.text", "Wörter")
writer.add_array("k.texts", ["a", "bc", ""])
writer.add_array("k.many", [f"token {n}" for n in range(300)])
writer.add_array("k.numbers", list(range(1000)))

for kind, places in HALVES.items():
    length, size = gguf.GGML_QUANT_SIZES[kind]
    rows, per_row = 2, 2 if length == 32 else 1
    blocks = rng.integers(0, 256, (rows * per_row, size), dtype=np.uint8)
    for place in places:
        scales = rng.normal(0, 0.02, rows * per_row).astype(np.float16)
        blocks[:, place:place + 2] = scales.view(np.uint8).reshape(-1, 2)
    if kind == T.MXFP4:
        blocks[:, 0] = [120, 127, 133, 1]
    data = blocks.reshape(rows, per_row * size)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    writer.add_tensor(kind.name + ".expected", gguf.quants.dequantize(data, kind).astype(np.float32))
values = rng.normal(0, 1, (3, 5)).astype(np.float32)
writer.add_tensor("f32", values)
writer.add_tensor("f16", values.astype(np.float16))
bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
writer.add_tensor("bf16", bf16.view(np.uint8), raw_dtype=T.BF16)
# As converters for ComfyUI store what does not fit: flattened, with the shape beside it.
writer.add_tensor("conv", rng.normal(0, 1, (4, 24)).astype(np.float32))
writer.add_array("comfy.gguf.orig_shape.conv", [2, 4, 1, 3, 4])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
