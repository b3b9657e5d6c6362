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
#include "train/ops.h"

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

static int admit_list(struct fence *fence, prx_ct *tensors, size_t n)
{
    for (size_t i = 0; i < n; i++)
        PRX_TRY(admit_tensors(fence, (prx_ct *[]){&tensors[i]}, 1));
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

/*
 * Op by op: parameters as in train/ops.h, what is passed on, and what of it is opened.
 * Forgetting an operand in the third list makes the op crash.
 */
#define UNPACK(...) __VA_ARGS__
#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define FENCED(op, params, args, operands)              \
 static int fence_##op(prx_be *be, UNPACK params)       \
 {                                                      \
  struct fence *fence = be->impl;                       \
  prx_ct *const list[] = {UNPACK operands};             \
  int rc = admit_tensors(fence, list, N_OF(list));      \
  if (rc == 0)                                          \
   rc = fence->real->ops->op(fence->real, UNPACK args); \
  return shut(fence, rc);                               \
 }

/* clang-format off */
FENCED(linear_fwd, (prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b),
       (y, x, w, b), (y, x, w, b))
FENCED(linear_bwd,
       (prx_t *dx, bool add, prx_t *dw, prx_t *db, prx_ct *dy, prx_ct *x, prx_ct *w),
       (dx, add, dw, db, dy, x, w), (dx, dw, db, dy, x, w))
FENCED(silu_fwd, (prx_t *y, prx_ct *x), (y, x), (y, x))
FENCED(silu_bwd, (prx_t *dx, bool add, prx_ct *dy, prx_ct *x),
       (dx, add, dy, x), (dx, dy, x))
FENCED(add, (prx_t *y, prx_ct *a, prx_ct *b), (y, a, b), (y, a, b))
FENCED(axpby, (prx_t *y, float alpha, prx_ct *x, float beta),
       (y, alpha, x, beta), (y, x))
FENCED(cast, (prx_t *y, prx_ct *x), (y, x), (y, x))
FENCED(sinusoid,
       (prx_t *y, int64_t col, int64_t dim, prx_ct *v, float factor, float max_period),
       (y, col, dim, v, factor, max_period), (y, v))
FENCED(patchify, (prx_t *y, prx_ct *x, int64_t patch), (y, x, patch), (y, x))
FENCED(unpatchify, (prx_t *x, prx_ct *y, int64_t patch), (x, y, patch), (x, y))
FENCED(concat_tokens_fwd, (prx_t *y, prx_ct *a, prx_ct *x), (y, a, x), (y, a, x))
FENCED(concat_tokens_bwd, (prx_t *da, prx_t *dx, prx_ct *dy),
       (da, dx, dy), (da, dx, dy))
FENCED(gather_tokens_fwd, (prx_t *y, prx_ct *x, prx_ct *idx), (y, x, idx), (y, x, idx))
FENCED(gather_tokens_bwd, (prx_t *dx, bool add, prx_ct *dy, prx_ct *idx),
       (dx, add, dy, idx), (dx, dy, idx))
FENCED(merge_tokens_fwd, (prx_t *y, prx_ct *x, prx_ct *idx, prx_ct *rest),
       (y, x, idx, rest), (y, x, idx, rest))
FENCED(merge_tokens_bwd, (prx_t *dx, prx_t *drest, bool add, prx_ct *dy, prx_ct *idx),
       (dx, drest, add, dy, idx), (dx, drest, dy, idx))
FENCED(ln_modulate_fwd,
       (prx_t *y, prx_t *mean, prx_t *rstd, prx_ct *x, prx_ct *mod, int i_shift,
        int i_scale, float eps),
       (y, mean, rstd, x, mod, i_shift, i_scale, eps), (y, mean, rstd, x, mod))
FENCED(ln_modulate_bwd,
       (prx_t *dx, bool add, prx_t *dmod, prx_ct *dy, prx_ct *x, prx_ct *mean,
        prx_ct *rstd, prx_ct *mod, int i_shift, int i_scale),
       (dx, add, dmod, dy, x, mean, rstd, mod, i_shift, i_scale),
       (dx, dmod, dy, x, mean, rstd, mod))
FENCED(gate_residual_fwd, (prx_t *y, prx_ct *h, prx_ct *x, prx_ct *mod, int i_gate),
       (y, h, x, mod, i_gate), (y, h, x, mod))
FENCED(gate_residual_bwd,
       (prx_t *dx, prx_t *dmod, prx_ct *dy, prx_ct *x, prx_ct *mod, int i_gate),
       (dx, dmod, dy, x, mod, i_gate), (dx, dmod, dy, x, mod))
FENCED(head_norm_rope_fwd,
       (prx_t *y, prx_t *rrms, prx_ct *x, int64_t col, prx_ct *scale, prx_ct *rope,
        float eps),
       (y, rrms, x, col, scale, rope, eps), (y, rrms, x, scale, rope))
FENCED(head_norm_rope_bwd,
       (prx_t *dx, prx_t *dscale, prx_ct *dy, prx_ct *x, int64_t col, prx_ct *rrms,
        prx_ct *scale, prx_ct *rope),
       (dx, dscale, dy, x, col, rrms, scale, rope),
       (dx, dscale, dy, x, rrms, scale, rope))
FENCED(attention_fwd,
       (prx_t *o, prx_t *lse, prx_ct *q, prx_ct *k, prx_ct *v, int64_t col_v,
        prx_ct *kt, prx_ct *vt, int64_t col_vt, prx_ct *mask, int64_t n_heads),
       (o, lse, q, k, v, col_v, kt, vt, col_vt, mask, n_heads),
       (o, lse, q, k, v, kt, vt, mask))
FENCED(attention_bwd,
       (prx_t *dq, prx_t *dk, prx_t *dv, prx_t *dkt, prx_t *dvt, prx_ct *do_,
        prx_ct *o, prx_ct *lse, prx_ct *q, prx_ct *k, prx_ct *v, int64_t col_v,
        prx_ct *kt, prx_ct *vt, int64_t col_vt, prx_ct *mask, int64_t n_heads),
       (dq, dk, dv, dkt, dvt, do_, o, lse, q, k, v, col_v, kt, vt, col_vt, mask,
        n_heads),
       (dq, dk, dv, dkt, dvt, do_, o, lse, q, k, v, kt, vt, mask))
FENCED(gated_gelu_fwd, (prx_t *y, prx_ct *g, prx_ct *u), (y, g, u), (y, g, u))
FENCED(gated_gelu_bwd, (prx_t *dg, prx_t *du, prx_ct *dy, prx_ct *g, prx_ct *u),
       (dg, du, dy, g, u), (dg, du, dy, g, u))
FENCED(flow_mix, (prx_t *xt, prx_t *v, prx_ct *x0, prx_ct *noise, prx_ct *t),
       (xt, v, x0, noise, t), (xt, v, x0, noise, t))
FENCED(x0_velocity_fwd,
       (prx_t *v, prx_ct *xt, prx_ct *x0, prx_ct *t, float t_min),
       (v, xt, x0, t, t_min), (v, xt, x0, t))
FENCED(x0_velocity_bwd, (prx_t *dx0, bool add, prx_ct *dv, prx_ct *t, float t_min),
       (dx0, add, dv, t, t_min), (dx0, dv, t))
FENCED(mse_fwd, (prx_t *loss, prx_t *per_sample, prx_ct *p, prx_ct *target),
       (loss, per_sample, p, target), (loss, per_sample, p, target))
FENCED(mse_bwd, (prx_t *dp, bool add, prx_ct *p, prx_ct *target, float weight),
       (dp, add, p, target, weight), (dp, p, target))
/* clang-format on */

static int fence_sumsq(prx_be *be, prx_t *out, const struct prx_tensor *tensors,
                       size_t n)
{
    struct fence *fence = be->impl;
    int rc = admit_list(fence, out, 1);

    if (rc == 0)
        rc = admit_list(fence, tensors, n);
    if (rc == 0)
        rc = fence->real->ops->sumsq(fence->real, out, tensors, n);
    return shut(fence, rc);
}

static int fence_adamw(prx_be *be, const struct prx_adamw_slot *slots, size_t n,
                       const struct prx_adamw_args *args)
{
    struct fence *fence = be->impl;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct prx_adamw_slot *slot = &slots[i];
        prx_ct *const list[] = {&slot->p, &slot->g, &slot->m, &slot->v};
        rc = admit_tensors(fence, list, N_OF(list));
    }
    if (rc == 0)
        rc = fence->real->ops->adamw(fence->real, slots, n, args);
    return shut(fence, rc);
}

static int fence_muon(prx_be *be, const struct prx_muon_slot *slots, size_t n,
                      const struct prx_muon_args *args)
{
    struct fence *fence = be->impl;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        prx_ct *const list[] = {&slots[i].p, &slots[i].g, &slots[i].m};
        rc = admit_tensors(fence, list, N_OF(list));
    }
    if (rc == 0)
        rc = fence->real->ops->muon(fence->real, slots, n, args);
    return shut(fence, rc);
}

static int fence_lerp(prx_be *be, const struct prx_tensor *ys,
                      const struct prx_tensor *xs, size_t n, double weight)
{
    struct fence *fence = be->impl;
    int rc = admit_list(fence, ys, n);

    if (rc == 0)
        rc = admit_list(fence, xs, n);
    if (rc == 0)
        rc = fence->real->ops->lerp(fence->real, ys, xs, n, weight);
    return shut(fence, rc);
}

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
