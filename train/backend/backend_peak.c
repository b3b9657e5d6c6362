/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend's matrix product reaches: the best of several, large enough to fill
 * the machine.
 *
 * How large that is depends on the machine, and so does what there is time for: sides
 * double from one that nobody takes long for.  But threads of a busy machine wait for
 * one another longer than a small product takes, which would tell nothing; so with
 * several of them the first is large.
 */
#include <stdlib.h>

#include "libdata/progress.h"
#include "train/backend.h"
#include "train/ops.h"

#define SIDE_MIN   64
#define SIDE_USUAL 1024 /* fills a processor */
#define SIDE_MAX   8192

/* Not zeros: chips draw less power on those, and run faster. */
static int set_values(struct prx_backend *be, struct prx_tensor *tensor)
{
    size_t n = (size_t)prx_tensor_count(tensor);
    float *values = malloc(n * sizeof(*values));
    uint32_t seed = 1;

    if (!values)
        return prx_err_nomem("a product to be timed");
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (float)(int32_t)seed * 0x1p-31F;
    }
    int rc = prx_tensor_set(be, tensor, values);
    free(values);
    return rc;
}

/* Lower *@best_ns to that of products of squares: of two, or of more until @end_ns. */
static int time_side(struct prx_backend *be, int64_t side, int64_t end_ns,
                     int64_t *best_ns)
{
    const int64_t dims[] = {side, side};
    struct prx_tensor y = {0}, x = {0}, w = {0};
    int rc = 0;

    PRX_GO(prx_tensor_alloc(be, PRX_F32, 2, dims, &y));
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 2, dims, &x));
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 2, dims, &w));
    PRX_GO(set_values(be, &x));
    PRX_GO(set_values(be, &w));
    for (int i = 0; i < 2 || prx_now_ns() + *best_ns < end_ns; i++) {
        int64_t start_ns = prx_now_ns();
        PRX_GO(be->ops->linear_fwd(be, &y, &x, &w, NULL));
        PRX_GO(prx_backend_sync(be));
        int64_t took_ns = prx_now_ns() - start_ns;
        if (took_ns < *best_ns)
            *best_ns = took_ns > 0 ? took_ns : 1;
    }
out:
    prx_tensor_free(be, &y);
    prx_tensor_free(be, &x);
    prx_tensor_free(be, &w);
    return rc;
}

int prx_backend_peak(struct prx_backend *be, double time_s, double *flop_per_s)
{
    const int64_t time_ns = (int64_t)(time_s * 1e9);
    const int64_t end_ns = prx_now_ns() + time_ns;
    int64_t side = be->n_threads > 1 ? SIDE_USUAL : SIDE_MIN;
    int64_t best_ns;

    for (;; side *= 2) {
        best_ns = INT64_MAX;
        PRX_TRY(time_side(be, side, 0, &best_ns));
        int64_t enough_ns = side < SIDE_USUAL ? time_ns / 5 : time_ns / 100;
        if (side == SIDE_MAX || best_ns > enough_ns)
            break;
    }
    if (prx_now_ns() < end_ns)
        PRX_TRY(time_side(be, side, end_ns, &best_ns));
    *flop_per_s = 2.0 * (double)(side * side * side) / ((double)best_ns * 1e-9);
    return 0;
}
