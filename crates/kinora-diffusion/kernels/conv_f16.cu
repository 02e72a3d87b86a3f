// Convolutions over f16: blocks of 128 outputs, and of 32 for layers with few and for small images. The
// tiles are those of src/kernels/conv.rs.
#include "conv.cuh"

CONVOLUTION(conv_f16_128, f16, 4, 2, 2)
CONVOLUTION(conv_f16_32, f16, 2, 1, 2)
