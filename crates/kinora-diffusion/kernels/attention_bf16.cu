// Attention over bf16. The sizes of heads and tiles are those of src/kernels/attention.rs.
#include "attention.cuh"

ATTENTION(attention_bf16_48, bf16, 48, 48, 2, 4, 64)
ATTENTION(attention_bf16_64, bf16, 64, 64, 2, 4, 64)
ATTENTION(attention_bf16_80, bf16, 80, 80, 2, 4, 64)
ATTENTION(attention_bf16_96, bf16, 96, 96, 2, 4, 32)
ATTENTION(attention_bf16_128, bf16, 128, 128, 2, 4, 32)
ATTENTION(attention_bf16_160, bf16, 160, 160, 1, 4, 32)
ATTENTION(attention_bf16_256, bf16, 256, 256, 1, 4, 32)
ATTENTION(attention_bf16_512, bf16, 512, 256, 1, 4, 16)
