/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena of one training step: memory by moving a pointer.
 *
 * Invariants:
 *   1. Chunks before i_chunk are full, chunks after it are empty.
 *   2. Every tensor starts on a 64-byte boundary of its chunk.
 *   3. After a reset there is at most one chunk, as large as the largest step so
 *      far needed; a step no larger than that allocates nothing.
 * Device memory and host memory are two such stacks; marks cover the first.
 */
#include "train/backend.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN_BYTES     ((size_t)64)
#define CHUNK_BYTES_MIN ((size_t)1 << 20)
#define CHUNKS_MAX      64 /* each is at least as large as all before it together */

struct chunk {
    char *bytes;
    size_t cap_bytes;
    size_t n_used_bytes;
};

struct stack {
    struct prx_backend *be; /* NULL: host memory */
    struct chunk chunks[CHUNKS_MAX];
    size_t n_chunks;
    size_t i_chunk;      /* where memory is handed out */
    size_t n_full_bytes; /* used in the chunks before i_chunk */
    size_t peak_bytes;
};

struct prx_arena {
    struct stack device;
    struct stack host;
};

static int chunk_alloc(struct prx_backend *be, size_t n_bytes, struct chunk *out)
{
    void *bytes = NULL;
    if (be)
        PRX_TRY(be->alloc(be, n_bytes, &bytes));
    else if (!(bytes = malloc(n_bytes)))
        return prx_err(PRX_ENOMEM, "out of memory for %zu bytes of an arena", n_bytes);
    *out = (struct chunk){.bytes = bytes, .cap_bytes = n_bytes};
    return 0;
}

static void stack_release(struct stack *stack)
{
    for (size_t i = 0; i < stack->n_chunks; i++) {
        if (stack->be)
            stack->be->free(stack->be, stack->chunks[i].bytes);
        else
            free(stack->chunks[i].bytes);
    }
    stack->n_chunks = stack->i_chunk = stack->n_full_bytes = 0;
}

/* Make chunk i_chunk have room for @n_bytes, moving on or adding a chunk. */
static int stack_reserve(struct stack *stack, size_t n_bytes)
{
    size_t total_bytes = 0;

    for (; stack->i_chunk < stack->n_chunks; stack->i_chunk++) {
        const struct chunk *chunk = &stack->chunks[stack->i_chunk];
        if (n_bytes <= chunk->cap_bytes - chunk->n_used_bytes)
            return 0;
        if (stack->i_chunk + 1 == stack->n_chunks)
            break;
        stack->n_full_bytes += chunk->n_used_bytes;
    }
    for (size_t i = 0; i < stack->n_chunks; i++)
        total_bytes += stack->chunks[i].cap_bytes;
    if (total_bytes < CHUNK_BYTES_MIN)
        total_bytes = CHUNK_BYTES_MIN;
    if (total_bytes < n_bytes)
        total_bytes = n_bytes;
    PRX_BUG_IF(stack->n_chunks == CHUNKS_MAX);
    PRX_TRY(chunk_alloc(stack->be, total_bytes, &stack->chunks[stack->n_chunks]));
    if (stack->n_chunks > 0)
        stack->n_full_bytes += stack->chunks[stack->i_chunk].n_used_bytes;
    stack->i_chunk = stack->n_chunks++;
    return 0;
}

static int stack_take(struct stack *stack, size_t n_bytes, void **out)
{
    if (n_bytes > SIZE_MAX / 2)
        return prx_err(PRX_ENOMEM, "out of memory for %zu bytes of an arena", n_bytes);
    n_bytes = (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    PRX_TRY(stack_reserve(stack, n_bytes));
    struct chunk *chunk = &stack->chunks[stack->i_chunk];
    *out = chunk->bytes + chunk->n_used_bytes;
    chunk->n_used_bytes += n_bytes;
    size_t n_used_bytes = stack->n_full_bytes + chunk->n_used_bytes;
    if (n_used_bytes > stack->peak_bytes)
        stack->peak_bytes = n_used_bytes;
    return 0;
}

static int stack_reset(struct stack *stack)
{
    if (stack->n_chunks > 1) {
        /* Full chunks waste their tails; one chunk of the sum does not. */
        stack_release(stack);
        PRX_TRY(chunk_alloc(stack->be, stack->peak_bytes, &stack->chunks[0]));
        stack->n_chunks = 1;
    }
    stack->i_chunk = stack->n_full_bytes = 0;
    if (stack->n_chunks == 1)
        stack->chunks[0].n_used_bytes = 0;
    return 0;
}

int prx_arena_new(struct prx_backend *be, struct prx_arena **out)
{
    struct prx_arena *arena = calloc(1, sizeof(*arena));
    if (!arena)
        return prx_err_nomem("an arena");
    arena->device.be = be;
    *out = arena;
    return 0;
}

void prx_arena_free(struct prx_arena *arena)
{
    if (!arena)
        return;
    stack_release(&arena->device);
    stack_release(&arena->host);
    free(arena);
}

int prx_arena_tensor(struct prx_arena *arena, enum prx_dtype dtype, int n_dims,
                     const int64_t *dims, struct prx_tensor *out)
{
    struct prx_tensor tensor;
    PRX_TRY(prx_tensor_shape(dtype, n_dims, dims, &tensor));
    if (prx_tensor_count(&tensor) > 0)
        PRX_TRY(stack_take(&arena->device, prx_tensor_bytes(&tensor), &tensor.data));
    *out = tensor;
    return 0;
}

int prx_arena_host(struct prx_arena *arena, size_t n_bytes, void **out)
{
    PRX_TRY(stack_take(&arena->host, n_bytes, out));
    memset(*out, 0, n_bytes);
    return 0;
}

int prx_arena_reset(struct prx_arena *arena)
{
    PRX_TRY(stack_reset(&arena->device));
    return stack_reset(&arena->host);
}

struct prx_arena_mark prx_arena_mark(const struct prx_arena *arena)
{
    const struct stack *stack = &arena->device;
    struct prx_arena_mark mark = {.i_chunk = stack->i_chunk};
    if (stack->n_chunks > 0)
        mark.n_used_bytes = stack->chunks[stack->i_chunk].n_used_bytes;
    return mark;
}

void prx_arena_rewind(struct prx_arena *arena, struct prx_arena_mark mark)
{
    struct stack *stack = &arena->device;
    PRX_BUG_IF(mark.i_chunk > stack->i_chunk);
    while (stack->i_chunk > mark.i_chunk) {
        stack->chunks[stack->i_chunk].n_used_bytes = 0;
        stack->n_full_bytes -= stack->chunks[--stack->i_chunk].n_used_bytes;
    }
    if (stack->n_chunks > 0)
        stack->chunks[stack->i_chunk].n_used_bytes = mark.n_used_bytes;
}

size_t prx_arena_peak_bytes(const struct prx_arena *arena)
{
    return arena->device.peak_bytes;
}
