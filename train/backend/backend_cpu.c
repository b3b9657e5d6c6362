/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "cpu": all processors, host memory. */
#include "train/backend/backend_internal.h"
#include "train/cpu/cpu_internal.h"

#include <stdlib.h>
#include <string.h>

/* Memory is cleared in pieces of this size, by all threads. */
#define PIECE_BYTES ((size_t)1 << 18)

static int cpu_zero(struct prx_backend *be, void *device, size_t n_bytes)
{
    int64_t n_pieces = (int64_t)((n_bytes + PIECE_BYTES - 1) / PIECE_BYTES);
    int n_team = prx_cpu_team(be, n_pieces);

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < n_pieces; i++) {
        size_t at = (size_t)i * PIECE_BYTES;
        memset((char *)device + at, 0,
               n_bytes - at < PIECE_BYTES ? n_bytes - at : PIECE_BYTES);
    }
    return 0;
}

static void cpu_close(struct prx_backend *be)
{
    struct prx_cpu *cpu = be->impl;
    prx_host_free(be, cpu->scratch.floats);
    prx_host_free(be, cpu->matrices.floats);
    free(cpu);
    free(be);
}

static int grow(prx_be *be, struct prx_cpu_area *area, int64_t n_floats, float **out)
{
    size_t n_bytes = (size_t)n_floats * sizeof(float);
    void *memory = NULL;

    if (n_bytes > area->n_bytes) {
        /* The old contents are nobody's: free first, so that both never coexist. */
        prx_host_free(be, area->floats);
        *area = (struct prx_cpu_area){0};
        PRX_TRY(prx_host_alloc(be, n_bytes, &memory));
        *area = (struct prx_cpu_area){.floats = memory, .n_bytes = n_bytes};
    }
    *out = area->floats;
    return 0;
}

int prx_cpu_scratch(prx_be *be, int64_t n_floats, float **out)
{
    struct prx_cpu *cpu = be->impl;
    return grow(be, &cpu->scratch, n_floats, out);
}

int prx_cpu_matrices(prx_be *be, int64_t n_floats, float **out)
{
    struct prx_cpu *cpu = be->impl;
    return grow(be, &cpu->matrices, n_floats, out);
}

int prx_backend_cpu_open(int n_threads, struct prx_backend **out)
{
    struct prx_backend *be = malloc(sizeof(*be));
    struct prx_cpu *cpu = calloc(1, sizeof(*cpu));
    if (!be || !cpu) {
        free(be);
        free(cpu);
        return prx_err_nomem("a backend");
    }
    *be = (struct prx_backend){
        .name = "cpu",
        .ops = &prx_cpu_ops,
        .n_threads = n_threads,
        .impl = cpu,
        .alloc = prx_host_alloc,
        .free = prx_host_free,
        .copy_in = prx_host_copy_in,
        .copy_out = prx_host_copy_out,
        .zero = cpu_zero,
        .sync = prx_host_sync,
        .close = cpu_close,
    };
    *out = be;
    return 0;
}
