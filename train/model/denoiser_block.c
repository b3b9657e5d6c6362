/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One block of the denoiser.
 *
 *     h = h + gate1 * attend(modulate1(h), text)
 *     h = h + gate2 * mlp(modulate2(h))
 *
 * Image tokens attend to text and image tokens; text tokens are read, never
 * changed.  The six modulations are one linear map of the condition.  What costs
 * little to compute is forgotten: a third of the memory for a hundredth of the time.
 * Source: PRX prx/models/prx_layers.py, PRXBlock.
 */
#include "train/model/denoiser_internal.h"

#define NORM_EPS 1e-6f

/* Blocks of the modulation, in the checkpoint's order. */
enum {
    SHIFT_1,
    SCALE_1,
    GATE_1,
    SHIFT_2,
    SCALE_2,
    GATE_2,
};

static struct prx_var *attend(const struct prx_denoiser *denoiser,
                              const struct prx_block *block,
                              const struct prx_pass *pass, struct prx_var *u)
{
    struct prx_tape *tape = pass->tape;
    int64_t d = denoiser->config.hidden_size;

    // [B, N, 3D] queries, keys, values of the image; [B, L, 2D] keys, values of the
    // text
    struct prx_var *qkv = prx_nn_linear(tape, u, block->img_qkv, NULL);
    struct prx_var *kv = prx_nn_linear(tape, pass->text, block->txt_kv, NULL);
    struct prx_var *q =
        prx_nn_head_norm_rope(tape, qkv, 0, d, block->norm_q, &pass->rope, NORM_EPS);
    struct prx_var *k =
        prx_nn_head_norm_rope(tape, qkv, d, d, block->norm_k, &pass->rope, NORM_EPS);
    struct prx_var *kt =
        prx_nn_head_norm_rope(tape, kv, 0, d, block->norm_added_k, NULL, NORM_EPS);
    struct prx_var *o = prx_nn_attention(tape, q, k, qkv, 2 * d, kt, kv, d, &pass->mask,
                                         denoiser->config.num_heads); // [B, N, D]
    prx_tape_forget(tape, q);
    prx_tape_forget(tape, k);
    prx_tape_forget(tape, kt);
    return prx_nn_linear(tape, o, block->attn_out, NULL);
}

static struct prx_var *mlp(const struct prx_block *block, struct prx_tape *tape,
                           struct prx_var *u)
{
    struct prx_var *gate = prx_nn_linear(tape, u, block->gate_proj, NULL); // [B, N, F]
    struct prx_var *up = prx_nn_linear(tape, u, block->up_proj, NULL);     // [B, N, F]
    struct prx_var *y = prx_nn_gated_gelu(tape, gate, up);
    prx_var_spend(gate);
    prx_var_spend(up);
    struct prx_var *down = prx_nn_linear(tape, y, block->down_proj, NULL);
    prx_tape_forget(tape, y);
    return down;
}

struct prx_var *prx_denoiser_block(const struct prx_denoiser *denoiser,
                                   const struct prx_block *block,
                                   const struct prx_pass *pass, struct prx_var *h)
{
    struct prx_tape *tape = pass->tape;
    struct prx_var *mod = prx_nn_linear(tape, pass->cond, block->modulation.w,
                                        block->modulation.b); // [B, 6D]

    struct prx_var *u = prx_nn_ln_modulate(tape, h, mod, SHIFT_1, SCALE_1, NORM_EPS);
    struct prx_var *middle =
        prx_nn_gate_residual(tape, h, attend(denoiser, block, pass, u), mod, GATE_1);
    prx_tape_forget(tape, u);
    u = prx_nn_ln_modulate(tape, middle, mod, SHIFT_2, SCALE_2, NORM_EPS);
    struct prx_var *out =
        prx_nn_gate_residual(tape, middle, mlp(block, tape, u), mod, GATE_2);
    prx_tape_forget(tape, u);
    prx_tape_forget(tape, middle);
    return out;
}
