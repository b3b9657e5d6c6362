/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "ref": the specification, one thread, plain loops in host memory. */
#include "train/backend/backend_internal.h"
#include "train/ref/ref_internal.h"

#include <stdlib.h>

static void ref_close(struct prx_backend *be)
{
    free(be);
}

int prx_backend_ref_open(int n_threads, struct prx_backend **out)
{
    struct prx_backend *be = malloc(sizeof(*be));
    if (!be)
        return prx_err_nomem("a backend");
    (void)n_threads; /* plain loops use one */
    *be = (struct prx_backend){
        .name = "ref",
        .ops = &prx_ref_ops,
        .n_threads = 1,
        .alloc = prx_host_alloc,
        .free = prx_host_free,
        .copy_in = prx_host_copy_in,
        .copy_out = prx_host_copy_out,
        .zero = prx_host_zero,
        .sync = prx_host_sync,
        .close = ref_close,
    };
    *out = be;
    return 0;
}
