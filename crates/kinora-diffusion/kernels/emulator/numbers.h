// bf16 and f16 as the hardware rounds them: to nearest, ties to even, with subnormals.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) { return float_of(uint32_t(x.bits) << 16); }

inline float to_float(f16 x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = (x.bits >> 10) & 31, mantissa = x.bits & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000 | (mantissa << 13));
    if (exponent) return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
    const float magnitude = float(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

template <typename T> T from_float(float x);

template <> inline float from_float<float>(float x) { return x; }

template <> inline bf16 from_float<bf16>(float x) {
    const uint32_t bits = bits_of(x);
    if (x != x) return {0x7fff};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

template <> inline f16 from_float<f16>(float x) {
    const uint32_t bits = bits_of(x);
    const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
    if (x != x) return {0x7fff};
    const float magnitude = std::fabs(x);
    // Halfway to the number after the largest is already infinite.
    if (magnitude >= 65520.0f) return {uint16_t(sign | 0x7c00)};
    // Below the normal numbers the steps are 2⁻²⁴; rintf takes ties to even.
    if (magnitude < 0x1p-14f) return {uint16_t(sign | uint16_t(std::rintf(magnitude * 0x1p24f)))};
    uint32_t whole = bits & 0x7fffffff;
    whole += 0xfff + ((whole >> 13) & 1);
    return {uint16_t(sign | ((whole >> 13) - (112u << 10)))};
}

template <typename T> uint32_t pack2(float low, float high) {
    return uint32_t(from_float<T>(low).bits) | uint32_t(from_float<T>(high).bits) << 16;
}

template <typename T> float half_of(uint32_t packed, int part) {
    return to_float(T{uint16_t(packed >> (16 * part))});
}
