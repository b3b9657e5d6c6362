/* SPDX-License-Identifier: Apache-2.0 */
/* What this processor can do, asked once. */
#include "libdata/simd.h"

#include <stdlib.h>
#include <string.h>

static int detect(void)
{
    int level = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
        level = 3;
    if (level == 3 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
        level = 4;
#endif
    const char *limit = getenv("PRX_SIMD");
    if (limit && strcmp(limit, "v1") == 0)
        level = 1;
    else if (limit && strcmp(limit, "v3") == 0 && level > 3)
        level = 3;
    return level;
}

int prx_simd_level(void)
{
    static int level;
    int known = __atomic_load_n(&level, __ATOMIC_RELAXED);
    if (known == 0) {
        known = detect();
        __atomic_store_n(&level, known, __ATOMIC_RELAXED);
    }
    return known;
}
