/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of backends that compute where the program lives.
 *
 * Blocks of a huge page or more ask for huge pages: a step walks through all of
 * its parameters and activations, and page-table walks would cost more than a
 * tenth of the matrix products.
 */
#include "train/backend/backend_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN_BYTES     ((size_t)64)
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

int prx_host_alloc(struct prx_backend *be, size_t n_bytes, void **out)
{
    size_t align_bytes = n_bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : ALIGN_BYTES;
    void *memory = NULL;

    (void)be;
    if (n_bytes > PTRDIFF_MAX ||
        posix_memalign(&memory, align_bytes, n_bytes > 0 ? n_bytes : ALIGN_BYTES) != 0)
        return prx_err(PRX_ENOMEM, "out of memory for %zu bytes of tensors", n_bytes);
#ifdef MADV_HUGEPAGE
    /* Advice only: a refusal costs speed, nothing else. */
    if (n_bytes >= HUGE_PAGE_BYTES)
        (void)madvise(memory, n_bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES,
                      MADV_HUGEPAGE);
#endif
    *out = memory;
    return 0;
}

void prx_host_free(struct prx_backend *be, void *memory)
{
    (void)be;
    free(memory);
}

int prx_host_copy_in(struct prx_backend *be, void *device, const void *host,
                     size_t n_bytes)
{
    (void)be;
    if (n_bytes > 0)
        memcpy(device, host, n_bytes);
    return 0;
}

int prx_host_copy_out(struct prx_backend *be, void *host, const void *device,
                      size_t n_bytes)
{
    (void)be;
    if (n_bytes > 0)
        memcpy(host, device, n_bytes);
    return 0;
}

int prx_host_zero(struct prx_backend *be, void *device, size_t n_bytes)
{
    (void)be;
    if (n_bytes > 0)
        memset(device, 0, n_bytes);
    return 0;
}

int prx_host_sync(struct prx_backend *be)
{
    (void)be;
    return 0;
}
