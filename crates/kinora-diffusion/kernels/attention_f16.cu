// Attention over f16. The sizes of heads and tiles are those of src/kernels/attention.rs.
#include "attention.cuh"

ATTENTION(attention_f16_48, f16, 48, 48, 2, 4, 64)
ATTENTION(attention_f16_64, f16, 64, 64, 2, 4, 64)
ATTENTION(attention_f16_80, f16, 80, 80, 2, 4, 64)
ATTENTION(attention_f16_96, f16, 96, 96, 2, 4, 32)
ATTENTION(attention_f16_128, f16, 128, 128, 2, 4, 32)
ATTENTION(attention_f16_160, f16, 160, 160, 1, 4, 32)
ATTENTION(attention_f16_256, f16, 256, 256, 1, 4, 32)
ATTENTION(attention_f16_512, f16, 512, 256, 1, 4, 16)
