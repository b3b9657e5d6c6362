/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16.h - numbers of PRX_BF16 tensors: the upper half of a float32.
 *
 * The range of float32 with 8 significant bits: neighbours are 1/256 to 1/128 of
 * their size apart.
 */
#ifndef PRX_TRAIN_BF16_H
#define PRX_TRAIN_BF16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A struct, so that bits cannot be taken for a number. */
typedef struct {
    uint16_t bits;
} prx_bf16;

static inline float prx_bf16_to_f32(prx_bf16 x)
{
    uint32_t bits = (uint32_t)x.bits << 16;
    float out;

    memcpy(&out, &bits, sizeof(out));
    return out;
}

/* The nearest, of two the even one; too large becomes infinite; NaN stays NaN. */
static inline prx_bf16 prx_bf16_from_f32(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    bits = is_nan ? bits | 0x400000U : bits + 0x7fffU + (bits >> 16 & 1U);
    prx_bf16 out = {(uint16_t)(bits >> 16)};
    return out;
}

static inline float prx_bf16_round(float x)
{
    return prx_bf16_to_f32(prx_bf16_from_f32(x));
}

#ifdef __cplusplus
}
#endif
#endif
