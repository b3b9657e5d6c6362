/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backend "fence": the processor's ops in memory that nobody else may touch.
 *
 * A program that follows a tensor's pointer runs well on the processor and crashes
 * on a device.  Here it crashes on the processor too: every allocation has pages of
 * its own, without any access but
 *
 *   1. while an op runs that has a tensor in it as operand,
 *   2. while it is copied or cleared through the backend's slots.
 *
 * An operand that is no memory of this backend, or leaves its allocation, is a bug
 * and aborts; so does memory that outlives the backend.  Memory ends at a page that
 * is never opened, so an op that runs past its end crashes, and is born as NaN.
 * What is opened is open to all threads: a race with an op goes unseen.
 */
#include "train/backend/backend_internal.h"
#include "train/backend/op_rows_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN_BYTES ((size_t)64)

/* One allocation: pages, of which @memory is the end, and one that stays closed. */
struct block {
    struct block *next;
    char *pages;
    size_t n_page_bytes; /* without the closed page */
    char *memory;
    size_t n_bytes;
    bool is_open;
};

struct fence {
    struct prx_backend *real;
    struct block *blocks;
    size_t page_bytes;
};

/* --- opening and closing ---------------------------------------------------------- */

/* Let @n_bytes at @memory be used until shut(). */
static int admit(struct fence *fence, const void *memory, size_t n_bytes)
{
    uintptr_t at = (uintptr_t)memory;
    struct block *block = fence->blocks;

    while (block && at - (uintptr_t)block->memory >= block->n_bytes)
        block = block->next;
    bool is_device_memory =
        block && n_bytes <= block->n_bytes - (at - (uintptr_t)block->memory);
    PRX_BUG_IF(!is_device_memory);
    if (!block->is_open &&
        mprotect(block->pages, block->n_page_bytes, PROT_READ | PROT_WRITE) < 0)
        return prx_err_sys("opening device memory");
    block->is_open = true;
    return 0;
}

static int admit_tensors(struct fence *fence, prx_ct *const *tensors, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!prx_tensor_is_absent(tensors[i]))
            PRX_TRY(admit(fence, tensors[i]->data, prx_tensor_bytes(tensors[i])));
    return 0;
}

static int admit_lists(struct fence *fence, const struct prx_operand_list *lists,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < lists[i].n; j++)
            PRX_TRY(admit_tensors(fence, (prx_ct *[]){&lists[i].tensors[j]}, 1));
    return 0;
}

/* Close all that is open; returns @rc, or the failure of this. */
static int shut(struct fence *fence, int rc)
{
    for (struct block *block = fence->blocks; block; block = block->next) {
        if (block->is_open &&
            mprotect(block->pages, block->n_page_bytes, PROT_NONE) < 0 && rc == 0)
            rc = prx_err_sys("closing device memory");
        block->is_open = false;
    }
    return rc;
}

/* --- memory ----------------------------------------------------------------------- */

static int fence_alloc(struct prx_backend *be, size_t n_bytes, void **out)
{
    struct fence *fence = be->impl;
    size_t page_bytes = fence->page_bytes;
    struct block *block;

    if (n_bytes > PTRDIFF_MAX - 2 * page_bytes)
        return prx_err(PRX_ENOMEM, "out of memory for %zu bytes of tensors", n_bytes);
    if (n_bytes == 0)
        n_bytes = 1;
    size_t n_page_bytes = (n_bytes + page_bytes - 1) / page_bytes * page_bytes;
    size_t n_end_bytes = (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    char *pages = mmap(NULL, n_page_bytes + page_bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return prx_err(PRX_ENOMEM, "out of memory for %zu bytes of tensors", n_bytes);
    block = malloc(sizeof(*block));
    if (!block) {
        munmap(pages, n_page_bytes + page_bytes);
        return prx_err_nomem("a tensor's place");
    }
    *block = (struct block){
        .next = fence->blocks,
        .pages = pages,
        .n_page_bytes = n_page_bytes,
        .memory = pages + n_page_bytes - n_end_bytes,
        .n_bytes = n_bytes,
    };
    fence->blocks = block;
    int rc = admit(fence, block->memory, n_bytes);
    if (rc == 0)
        memset(pages, 0xff, n_page_bytes);
    rc = shut(fence, rc);
    if (rc < 0)
        be->free(be, block->memory);
    else
        *out = block->memory;
    return rc;
}

static void fence_free(struct prx_backend *be, void *memory)
{
    struct fence *fence = be->impl;
    struct block **at = &fence->blocks;

    if (!memory)
        return;
    while (*at && (*at)->memory != memory)
        at = &(*at)->next;
    struct block *block = *at;
    bool is_device_memory = block;
    PRX_BUG_IF(!is_device_memory);
    *at = block->next;
    munmap(block->pages, block->n_page_bytes + fence->page_bytes);
    free(block);
}

static int fence_copy_in(struct prx_backend *be, void *device, const void *host,
                         size_t n_bytes)
{
    struct fence *fence = be->impl;
    int rc = n_bytes > 0 ? admit(fence, device, n_bytes) : 0;

    if (rc == 0)
        rc = fence->real->copy_in(fence->real, device, host, n_bytes);
    return shut(fence, rc);
}

static int fence_copy_out(struct prx_backend *be, void *host, const void *device,
                          size_t n_bytes)
{
    struct fence *fence = be->impl;
    int rc = n_bytes > 0 ? admit(fence, device, n_bytes) : 0;

    if (rc == 0)
        rc = fence->real->copy_out(fence->real, host, device, n_bytes);
    return shut(fence, rc);
}

static int fence_zero(struct prx_backend *be, void *device, size_t n_bytes)
{
    struct fence *fence = be->impl;
    int rc = n_bytes > 0 ? admit(fence, device, n_bytes) : 0;

    if (rc == 0)
        rc = fence->real->zero(fence->real, device, n_bytes);
    return shut(fence, rc);
}

static int fence_sync(struct prx_backend *be)
{
    struct fence *fence = be->impl;
    return fence->real->sync(fence->real);
}

/* --- ops -------------------------------------------------------------------------- */

/* An op whose operands are opened for it; forgetting one in its row makes it crash. */
#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define FENCED(op, params, args, operands)                  \
 static int fence_##op(prx_be *be, PRX_UNPACK params)       \
 {                                                          \
  struct fence *fence = be->impl;                           \
  prx_ct *const list[] = {PRX_UNPACK operands};             \
  int rc = admit_tensors(fence, list, N_OF(list));          \
  if (rc == 0)                                              \
   rc = fence->real->ops->op(fence->real, PRX_UNPACK args); \
  return shut(fence, rc);                                   \
 }
#define FENCED_LIST(op, params, args, operands)                  \
 static int fence_##op(prx_be *be, PRX_UNPACK params)            \
 {                                                               \
  struct fence *fence = be->impl;                                \
  const struct prx_operand_list lists[] = {PRX_UNPACK operands}; \
  int rc = admit_lists(fence, lists, N_OF(lists));               \
  if (rc == 0)                                                   \
   rc = fence->real->ops->op(fence->real, PRX_UNPACK args);      \
  return shut(fence, rc);                                        \
 }
PRX_OP_ROWS(FENCED)
PRX_LIST_OP_ROWS(FENCED_LIST)

#define SLOT(op) .op = fence_##op,
static const struct prx_ops fence_ops = {PRX_FOR_EACH_OP(SLOT)};

/* --- the backend ------------------------------------------------------------------ */

static void fence_close(struct prx_backend *be)
{
    struct fence *fence = be->impl;
    bool has_memory_left = fence->blocks;

    PRX_BUG_IF(has_memory_left);
    prx_backend_close(fence->real);
    free(fence);
    free(be);
}

int prx_backend_fence_open(int n_threads, struct prx_backend **out)
{
    struct prx_backend *be = malloc(sizeof(*be));
    struct fence *fence = calloc(1, sizeof(*fence));
    int rc = 0;

    if (!be || !fence)
        PRX_GO(prx_err_nomem("a backend"));
    PRX_GO(prx_backend_cpu_open(n_threads, &fence->real));
    fence->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    *be = (struct prx_backend){
        .name = "fence",
        .ops = &fence_ops,
        .n_threads = fence->real->n_threads,
        .impl = fence,
        .alloc = fence_alloc,
        .free = fence_free,
        .copy_in = fence_copy_in,
        .copy_out = fence_copy_out,
        .zero = fence_zero,
        .sync = fence_sync,
        .close = fence_close,
    };
    *out = be;
    return 0;
out:
    free(fence);
    free(be);
    return rc;
}
