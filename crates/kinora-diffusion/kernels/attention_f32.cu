// Attention over f32, each number as two of bf16. The sizes of heads and tiles are those of
// src/kernels/attention.rs.
#include "attention.cuh"

ATTENTION(attention_f32_48, float, 48, 48, 1, 4, 32)
ATTENTION(attention_f32_64, float, 64, 64, 1, 4, 32)
ATTENTION(attention_f32_80, float, 80, 80, 1, 4, 32)
ATTENTION(attention_f32_96, float, 96, 96, 1, 4, 32)
ATTENTION(attention_f32_128, float, 128, 128, 1, 4, 32)
ATTENTION(attention_f32_160, float, 160, 160, 1, 4, 32)
ATTENTION(attention_f32_256, float, 256, 256, 1, 4, 16)
ATTENTION(attention_f32_512, float, 512, 256, 1, 1, 16)
