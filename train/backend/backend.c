/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a backend by name, and tensors that own their memory on one. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "train/backend.h"
#include "train/backend/backend_internal.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/bf16.h"

/* Fastest first: "auto" takes the first that opens. */
static const struct {
    const char *name;
    bool by_name_only; /* no place to train at */
    int (*open)(int n_threads, struct prx_backend **out);
} backends[] = {
    {"cpu", false, prx_backend_cpu_open},
    {"ref", false, prx_backend_ref_open},
    {"fence", true, prx_backend_fence_open},
    {"plan", true, prx_backend_plan_open},
};

#define N_BACKENDS (sizeof(backends) / sizeof(backends[0]))

/* Processors this process may run on; the machine's where that is not known. */
static int n_usable_processors(void)
{
#ifdef CPU_COUNT
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (sched_getaffinity(0, sizeof(usable), &usable) == 0)
        return CPU_COUNT(&usable);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int prx_backend_open(const char *name, int n_threads, struct prx_backend **out)
{
    bool any = strcmp(name, "auto") == 0;
    int rc = 0;

    if (n_threads < 0)
        return prx_err(PRX_EINVAL, "a backend of %d threads", n_threads);
    if (n_threads == 0)
        n_threads = n_usable_processors();
    for (size_t i = 0; i < N_BACKENDS; i++) {
        if (any ? backends[i].by_name_only : strcmp(name, backends[i].name) != 0)
            continue;
        rc = backends[i].open(n_threads, out);
        if (rc == 0 || !any)
            return rc;
    }
    return rc < 0 ? rc : prx_err(PRX_EINVAL, "no backend \"%s\" in this build", name);
}

void prx_backend_close(struct prx_backend *be)
{
    if (be)
        be->close(be);
}

int prx_backend_sync(struct prx_backend *be)
{
    return be->sync(be);
}

int prx_tensor_alloc(struct prx_backend *be, enum prx_dtype dtype, int n_dims,
                     const int64_t *dims, struct prx_tensor *out)
{
    struct prx_tensor tensor;
    PRX_TRY(prx_tensor_shape(dtype, n_dims, dims, &tensor));
    if (prx_tensor_count(&tensor) > 0)
        PRX_TRY(be->alloc(be, prx_tensor_bytes(&tensor), &tensor.data));
    *out = tensor;
    return 0;
}

void prx_tensor_free(struct prx_backend *be, struct prx_tensor *tensor)
{
    if (!tensor)
        return;
    if (tensor->data)
        be->free(be, tensor->data);
    *tensor = (struct prx_tensor){0};
}

int prx_tensor_set(struct prx_backend *be, struct prx_tensor *tensor, const void *host)
{
    return be->copy_in(be, tensor->data, host, prx_tensor_bytes(tensor));
}

int prx_tensor_get(struct prx_backend *be, const struct prx_tensor *tensor, void *host)
{
    return be->copy_out(be, host, tensor->data, prx_tensor_bytes(tensor));
}

int prx_tensor_zero(struct prx_backend *be, struct prx_tensor *tensor)
{
    return be->zero(be, tensor->data, prx_tensor_bytes(tensor));
}

static int alloc_narrow(size_t n, prx_bf16 **out)
{
    *out = malloc((n + 1) * sizeof(**out));
    return *out ? 0 : prx_err_nomem("a tensor's copy");
}

int prx_tensor_set_f32(struct prx_backend *be, struct prx_tensor *tensor,
                       const float *host)
{
    size_t n = (size_t)prx_tensor_count(tensor);
    prx_bf16 *narrow;

    if (tensor->dtype == PRX_F32)
        return prx_tensor_set(be, tensor, host);
    PRX_BUG_IF(tensor->dtype != PRX_BF16);
    PRX_TRY(alloc_narrow(n, &narrow));
    for (size_t i = 0; i < n; i++)
        narrow[i] = prx_bf16_from_f32(host[i]);
    int rc = prx_tensor_set(be, tensor, narrow);
    free(narrow);
    return rc;
}

int prx_tensor_get_f32(struct prx_backend *be, const struct prx_tensor *tensor,
                       float *host)
{
    size_t n = (size_t)prx_tensor_count(tensor);
    prx_bf16 *narrow;

    if (tensor->dtype == PRX_F32)
        return prx_tensor_get(be, tensor, host);
    PRX_BUG_IF(tensor->dtype != PRX_BF16);
    PRX_TRY(alloc_narrow(n, &narrow));
    int rc = prx_tensor_get(be, tensor, narrow);
    for (size_t i = 0; rc == 0 && i < n; i++)
        host[i] = prx_bf16_to_f32(narrow[i]);
    free(narrow);
    return rc;
}
