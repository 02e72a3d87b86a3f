// Convolutions over bf16: blocks of 128 outputs, and of 32 for layers with few and for small images. The
// tiles are those of src/kernels/conv.rs.
#include "conv.cuh"

CONVOLUTION(conv_bf16_128, bf16, 4, 2, 2)
CONVOLUTION(conv_bf16_32, bf16, 2, 1, 2)
