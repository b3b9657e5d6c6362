/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simd.h - one source, several instruction sets, chosen when the program runs.
 *
 * A file named *_simd.c is compiled once for each level the Makefile knows
 * (x86-64: v1 = baseline, v3 = AVX2+FMA, v4 = AVX-512; elsewhere v1 only), with
 * PRX_SIMD_LEVEL defined to v1, v3 or v4.  It names everything external through
 * PRX_SIMD_NAME(), so the copies do not collide, and offers one table of
 * function pointers; a plain .c file picks the table with PRX_SIMD_PICK().
 * Results may differ between levels by rounding (FMA, order of lanes), never by
 * more; integer code is the same on all.  PRX_SIMD=v1|v3 in the environment
 * lowers the level, for tests.
 */
#ifndef PRX_LIBDATA_SIMD_H
#define PRX_LIBDATA_SIMD_H

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_SIMD_CAT_(name, level) name##_##level
#define PRX_SIMD_CAT(name, level)  PRX_SIMD_CAT_(name, level)
#define PRX_SIMD_NAME(name)        PRX_SIMD_CAT(name, PRX_SIMD_LEVEL)

/** prx_simd_level - 1, 3 or 4: the best this processor and build have. */
int prx_simd_level(void);

#if defined(__x86_64__)
# define PRX_SIMD_DECLARE(type, name) extern const type name##_v1, name##_v3, name##_v4
# define PRX_SIMD_PICK(name)                                               \
  (prx_simd_level() >= 4 ? &name##_v4 : prx_simd_level() >= 3 ? &name##_v3 \
                                                              : &name##_v1)
#else
# define PRX_SIMD_DECLARE(type, name) extern const type name##_v1
# define PRX_SIMD_PICK(name)          (&name##_v1)
#endif

#ifdef __cplusplus
}
#endif
#endif
