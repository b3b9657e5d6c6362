/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backend "plan": counts memory, and computes nothing.
 *
 * What is allocated is an address that no program has, and a size; what is copied out
 * is zeros.  So a step of any size runs in an instant and next to no memory, and what
 * it would have taken is known to the byte.
 */
#include "train/backend/backend_internal.h"
#include "train/backend/op_rows_internal.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN_BYTES ((size_t)64)
/* Above all that processors can address, and far from the end of pointers. */
#define FIRST_ADDRESS ((uintptr_t)1 << (8 * sizeof(uintptr_t) - 2))
#define N_BYTES_MAX   (FIRST_ADDRESS / 2) /* of all that is ever allocated */

struct block {
    struct block *next;
    uintptr_t address;
    size_t n_bytes;
};

struct plan {
    struct block *blocks;
    uintptr_t n_used_bytes; /* of addresses; none is given twice */
    struct prx_plan_usage usage;
};

static int plan_alloc(struct prx_backend *be, size_t n_bytes, void **out)
{
    struct plan *plan = be->impl;

    if (n_bytes > N_BYTES_MAX - ALIGN_BYTES - plan->n_used_bytes)
        return prx_err(PRX_ENOMEM, "out of addresses for %zu bytes of tensors",
                       n_bytes);
    struct block *block = malloc(sizeof(*block));
    if (!block)
        return prx_err_nomem("a tensor's place");
    *block = (struct block){
        .next = plan->blocks,
        .address = FIRST_ADDRESS + plan->n_used_bytes,
        .n_bytes = n_bytes,
    };
    plan->blocks = block;
    plan->n_used_bytes += (n_bytes / ALIGN_BYTES + 1) * ALIGN_BYTES;
    plan->usage.live_bytes += n_bytes;
    if (plan->usage.live_bytes > plan->usage.peak_bytes)
        plan->usage.peak_bytes = plan->usage.live_bytes;
    *out = (void *)block->address;
    return 0;
}

static void plan_free(struct prx_backend *be, void *memory)
{
    struct plan *plan = be->impl;
    struct block **at = &plan->blocks;

    if (!memory)
        return;
    while (*at && (*at)->address != (uintptr_t)memory)
        at = &(*at)->next;
    struct block *block = *at;
    bool is_device_memory = block;
    PRX_BUG_IF(!is_device_memory);
    *at = block->next;
    plan->usage.live_bytes -= block->n_bytes;
    free(block);
}

static int plan_copy_in(struct prx_backend *be, void *device, const void *host,
                        size_t n_bytes)
{
    (void)be;
    (void)device;
    (void)host;
    (void)n_bytes;
    return 0;
}

static int plan_copy_out(struct prx_backend *be, void *host, const void *device,
                         size_t n_bytes)
{
    (void)be;
    (void)device;
    if (n_bytes > 0)
        memset(host, 0, n_bytes);
    return 0;
}

static int plan_zero(struct prx_backend *be, void *device, size_t n_bytes)
{
    (void)be;
    (void)device;
    (void)n_bytes;
    return 0;
}

static int plan_sync(struct prx_backend *be)
{
    (void)be;
    return 0;
}

/* Ops have parameters that nothing is done with. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define PLANNED(op, params, args, operands)          \
 static int plan_##op(prx_be *be, PRX_UNPACK params) \
 {                                                   \
  return 0;                                          \
 }
PRX_OP_ROWS(PLANNED)
PRX_LIST_OP_ROWS(PLANNED)
#pragma GCC diagnostic pop

#define SLOT(op) .op = plan_##op,
static const struct prx_ops plan_ops = {PRX_FOR_EACH_OP(SLOT)};

struct prx_plan_usage prx_plan_usage(const struct prx_backend *be)
{
    PRX_BUG_IF(!be->is_plan);
    return ((const struct plan *)be->impl)->usage;
}

void prx_plan_reset_peak(struct prx_backend *be)
{
    PRX_BUG_IF(!be->is_plan);
    struct plan *plan = be->impl;
    plan->usage.peak_bytes = plan->usage.live_bytes;
}

static void plan_close(struct prx_backend *be)
{
    struct plan *plan = be->impl;
    bool has_memory_left = plan->blocks;

    PRX_BUG_IF(has_memory_left);
    free(plan);
    free(be);
}

int prx_backend_plan_open(int n_threads, struct prx_backend **out)
{
    struct prx_backend *be = malloc(sizeof(*be));
    struct plan *plan = calloc(1, sizeof(*plan));

    if (!be || !plan) {
        free(be);
        free(plan);
        return prx_err_nomem("a backend");
    }
    *be = (struct prx_backend){
        .name = "plan",
        .ops = &plan_ops,
        .n_threads = n_threads,
        .is_plan = true,
        .impl = plan,
        .alloc = plan_alloc,
        .free = plan_free,
        .copy_in = plan_copy_in,
        .copy_out = plan_copy_out,
        .zero = plan_zero,
        .sync = plan_sync,
        .close = plan_close,
    };
    *out = be;
    return 0;
}
