/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The denoiser's blocks in a row, some of them for some of the tokens only.
 *
 *     h -- start-1 --> dense -- gather --> start..end --> deep -- merge --> end+1 --
 *                        \_________________________________________/
 *
 * Positions are the tokens' own; text and condition are the same for all.
 */
#include "train/model/denoiser_internal.h"

/* A block as a segment of the tape. */
struct block_call {
    const struct prx_denoiser *denoiser;
    const struct prx_block *block;
    struct prx_pass pass;
    struct prx_var *h;
};

static struct prx_var *run_block(const void *ctx)
{
    const struct block_call *call = ctx;
    return prx_denoiser_block(call->denoiser, call->block, &call->pass, call->h);
}

/* Blocks @first to @last; @h itself is used up, unless @keeps it. */
static struct prx_var *run_blocks(const struct prx_denoiser *denoiser,
                                  const struct prx_pass *pass, struct prx_var *h,
                                  int64_t first, int64_t last, bool keeps)
{
    struct prx_tape *tape = pass->tape;

    for (int64_t i = first; i <= last; i++) {
        struct prx_arena_mark mark = prx_tape_mark(tape);
        const struct block_call call = {denoiser, &denoiser->blocks[i], *pass, h};
        struct prx_var *next = prx_tape_segment(tape, run_block, &call, sizeof(call));
        h = prx_tape_rewind(tape, mark, next, keeps && i == first ? NULL : h);
    }
    return h;
}

/* Positions [1, N, 2, HD/2] of the visible tokens [B, NV, 2, HD/2]. */
static struct prx_tensor visible_rope(const struct prx_pass *pass,
                                      const struct prx_tensor *visible)
{
    const int64_t *dims = pass->rope.dims;
    struct prx_tensor rows =
        prx_tensor_view(&pass->rope, 3, (int64_t[]){1, dims[1], 2 * dims[3]});
    struct prx_var *picked = prx_nn_gather_tokens(
        pass->tape, prx_tape_input(pass->tape, &rows, false), visible);

    if (!picked)
        return (struct prx_tensor){0};
    return prx_tensor_view(
        &picked->value, 4,
        (int64_t[]){visible->dims[0], visible->dims[1], 2, dims[3]});
}

/* What a later block sees of @h where gradients must not pass. */
static struct prx_var *detached(struct prx_tape *tape, struct prx_var *h)
{
    return h ? prx_tape_input(tape, &h->value, false) : NULL;
}

static struct prx_var *join(const struct prx_denoiser *denoiser,
                            const struct prx_pass *pass, struct prx_var *dense,
                            struct prx_var *deep, const struct prx_tensor *visible)
{
    const struct prx_route *route = &denoiser->config.route;
    const struct prx_trunk *trunk = &denoiser->trunk;
    struct prx_tape *tape = pass->tape;

    if (route->kind == PRX_ROUTE_TREAD)
        return prx_nn_merge_tokens(tape, deep, visible,
                                   route->detach ? detached(tape, dense) : dense);
    if (visible && dense)
        deep = prx_nn_fill_tokens(tape, deep, visible, dense->value.dims[1],
                                  trunk->sprint_mask);
    return prx_nn_linear(
        tape,
        prx_nn_concat_channels(tape, route->detach ? detached(tape, dense) : dense,
                               deep),
        trunk->sprint_fuse.w, trunk->sprint_fuse.b);
}

struct prx_var *prx_denoiser_blocks(const struct prx_denoiser *denoiser,
                                    const struct prx_pass *pass, struct prx_var *h,
                                    const struct prx_tensor *visible)
{
    const struct prx_denoiser_config *config = &denoiser->config;
    const struct prx_route *route = &config->route;
    struct prx_pass routed = *pass;

    if (prx_tensor_is_absent(visible))
        visible = NULL;
    if (route->kind == PRX_ROUTE_NONE || (route->kind == PRX_ROUTE_TREAD && !visible))
        return run_blocks(denoiser, pass, h, 0, config->depth - 1, false);

    struct prx_var *dense = run_blocks(denoiser, pass, h, 0, route->start - 1, false);
    struct prx_var *deep = dense;
    if (visible) {
        deep = prx_nn_gather_tokens(pass->tape, dense, visible);
        routed.rope = visible_rope(pass, visible);
    }
    deep = run_blocks(denoiser, &routed, deep, route->start, route->end, !visible);
    h = join(denoiser, pass, dense, deep, visible);
    return run_blocks(denoiser, pass, h, route->end + 1, config->depth - 1, false);
}
