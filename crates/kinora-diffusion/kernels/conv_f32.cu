// Convolutions over f32: blocks of 128 outputs, and of 32 for layers with few and for small images. The
// tiles are those of src/kernels/conv.rs.
#include "conv.cuh"

CONVOLUTION(conv_f32_128, float, 4, 2, 1)
CONVOLUTION(conv_f32_32, float, 2, 1, 2)
