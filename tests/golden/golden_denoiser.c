/* SPDX-License-Identifier: Apache-2.0 */
/* denoiser_forward, denoiser_train and its relatives, jit_forward, rope_table. */
#include "tests/golden/golden.h"

#include "train/objective.h"
#include "train/ops.h"
#include "train/rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 256

/* --- denoiser_forward ------------------------------------------------------- */

static int forward(struct golden_case *golden, struct prx_denoiser *denoiser,
                   struct prx_tape *tape)
{
    struct prx_tensor latent, t, text, mask;

    PRX_TRY(golden_upload(golden, &latent, "in.latent"));
    PRX_TRY(golden_upload(golden, &t, "in.timestep"));
    PRX_TRY(golden_upload(golden, &text, "in.text"));
    PRX_TRY(golden_upload(golden, &mask, "in.text_mask"));
    prx_tape_train(tape, false);
    struct prx_var *y =
        prx_denoiser_forward(denoiser, tape, prx_tape_input(tape, &latent, false), &t,
                             &text, mask.data ? &mask : NULL, NULL);
    PRX_TRY(prx_tape_error(tape));
    return golden_put_device(golden, &y->value, "out.prediction");
}

static int run_forward(struct golden_case *golden)
{
    struct prx_denoiser *denoiser = NULL;
    struct prx_tape *tape = NULL;
    int rc = 0;

    PRX_GO(golden_model(golden, false, &denoiser));
    PRX_GO(prx_tape_new(golden->be, &tape));
    rc = forward(golden, denoiser, tape);
out:
    prx_tape_free(tape);
    prx_denoiser_free(denoiser);
    return rc;
}

/* --- denoiser_train, denoiser_train_seeded, jit_, tread_, sprint_train ----------- */

static int upload_batch(struct golden_case *golden, struct prx_batch *out)
{
    *out = (struct prx_batch){0};
    PRX_TRY(golden_upload(golden, &out->latent, "in.latent"));
    PRX_TRY(golden_upload(golden, &out->noise, "in.noise"));
    PRX_TRY(golden_upload(golden, &out->t, "in.timestep"));
    PRX_TRY(golden_upload(golden, &out->text, "in.text"));
    PRX_TRY(golden_upload(golden, &out->mask, "in.text_mask"));
    return golden_visible(golden, &out->visible);
}

/* The loss and what it was taken of; what of these a case expects is compared. */
static int put_loss(struct golden_case *golden, struct prx_denoiser *denoiser,
                    struct prx_tape *tape, struct prx_flow_terms *terms,
                    struct prx_var **loss)
{
    enum prx_prediction kind = PRX_PREDICT_VELOCITY;
    struct prx_batch batch;

    PRX_TRY(golden_prediction(golden, &kind));
    PRX_TRY(upload_batch(golden, &batch));
    *loss = prx_flow_loss(tape, denoiser, kind, &batch, terms, NULL);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(golden_put_device(golden, &(*loss)->value, "out.loss"));
    PRX_TRY(golden_put_device(golden, &terms->target, "out.v_target"));
    return golden_put_device(golden, &terms->prediction->value, "out.prediction");
}

static int train(struct golden_case *golden, struct prx_denoiser *denoiser,
                 struct prx_tape *tape)
{
    struct prx_flow_terms terms;
    struct prx_var *loss = NULL;

    PRX_TRY(put_loss(golden, denoiser, tape, &terms, &loss));
    PRX_TRY(prx_param_store_zero_grad(prx_denoiser_params(denoiser)));
    return prx_tape_backward(tape, loss, 1.0f);
}

static int put_grads(struct golden_case *golden, const struct prx_param_store *store)
{
    char name[NAME_BYTES];

    for (size_t i = 0; i < store->n_params; i++) {
        PRX_TRY(golden_param_name(golden, store->params[i], name, sizeof(name)));
        PRX_TRY(golden_put_device(golden, &store->params[i]->grad, "grad.%s", name));
    }
    return 0;
}

/* Norm of a gradient, and its sum weighted by the probe's numbers. */
static int put_gradsum(struct golden_case *golden, const struct prx_param *param,
                       const char *name, uint64_t i_first, uint64_t probe_seed)
{
    int64_t count = prx_tensor_count(&param->grad);
    double sums[2] = {0.0, 0.0};
    char out_name[NAME_BYTES];
    float *grad = NULL;

    PRX_TRY(golden_alloc(golden, (size_t)count, sizeof(float), &grad));
    PRX_TRY(prx_tensor_get(golden->be, &param->grad, grad));
    for (int64_t i = 0; i < count; i++) {
        sums[0] += (double)grad[i] * grad[i];
        sums[1] += grad[i] * golden_splitmix(probe_seed, i_first + (uint64_t)i);
    }
    sums[0] = sqrt(sums[0]);
    snprintf(out_name, sizeof(out_name), "gradsum.%s", name);
    return golden_put_numbers(golden, out_name, sums, 2);
}

static int put_gradsums(struct golden_case *golden, const struct prx_param_store *store)
{
    const json_t *weights =
        json_object_get(json_object_get(golden->root, "config"), "weights");
    int64_t probe_seed = 0;
    size_t i;
    json_t *row;

    PRX_TRY(golden_integer(golden, "weights.grad_probe_seed", &probe_seed));
    json_array_foreach(json_object_get(weights, "params"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        int64_t i_first = json_integer_value(json_object_get(row, "offset"));
        char own_name[NAME_BYTES];
        PRX_TRY(prx_param_name_from_prx(name, own_name, sizeof(own_name)));
        PRX_TRY(put_gradsum(golden, prx_param_store_find(store, own_name), name,
                            (uint64_t)i_first, (uint64_t)probe_seed));
    }
    return 0;
}

static int run_train(struct golden_case *golden)
{
    struct prx_denoiser *denoiser = NULL;
    struct prx_tape *tape = NULL;
    int rc = 0;

    if (golden_is_todo(golden))
        return GOLDEN_TODO;
    PRX_GO(golden_model(golden, true, &denoiser));
    PRX_GO(prx_tape_new(golden->be, &tape));
    PRX_GO(train(golden, denoiser, tape));
    if (golden_has(golden, "weights"))
        PRX_GO(put_gradsums(golden, prx_denoiser_params(denoiser)));
    else
        PRX_GO(put_grads(golden, prx_denoiser_params(denoiser)));
out:
    prx_tape_free(tape);
    prx_denoiser_free(denoiser);
    return rc;
}

/* --- jit_forward ------------------------------------------------------------------ */

static int run_jit_forward(struct golden_case *golden)
{
    struct prx_denoiser *denoiser = NULL;
    struct prx_tape *tape = NULL;
    struct prx_flow_terms terms;
    struct prx_var *loss = NULL;
    int rc = 0;

    PRX_GO(golden_model(golden, false, &denoiser));
    PRX_GO(prx_tape_new(golden->be, &tape));
    PRX_GO(put_loss(golden, denoiser, tape, &terms, &loss));
    PRX_GO(golden_put_device(golden, &terms.noised, "out.noised"));
    rc = golden_put_device(golden, &terms.output->value, "out.x0_prediction");
out:
    prx_tape_free(tape);
    prx_denoiser_free(denoiser);
    return rc;
}

/* --- rope_table ------------------------------------------------------------------ */

struct rope {
    int64_t batch, n_heads, n_tokens, head_size;
    int64_t n_tables; /* 1, or one a sample */
    int64_t n_grid_tokens;
    float *table; // [n_tables, n_tokens, 2, head_size/2]
};

static int gather_table(struct golden_case *golden, struct rope *rope,
                        const float *grid)
{
    const struct prx_st_tensor *idx = NULL;
    const int32_t *rows = NULL;
    int64_t n_row_values = rope->head_size;

    PRX_TRY(golden_ints(golden, "in.visible_idx", 2, &idx, &rows));
    if (idx->dims[0] != rope->batch || idx->dims[1] != rope->n_tokens)
        return prx_err(PRX_ESHAPE, "in.visible_idx does not fit in.x");
    rope->n_tables = rope->batch;
    PRX_TRY(golden_alloc(golden, (size_t)(rope->batch * rope->n_tokens * n_row_values),
                         sizeof(float), &rope->table));
    for (int64_t i = 0; i < rope->batch * rope->n_tokens; i++) {
        if (rows[i] < 0 || rows[i] >= rope->n_grid_tokens)
            return prx_err(PRX_EINVAL, "in.visible_idx leaves the grid");
        memcpy(rope->table + i * n_row_values, grid + rows[i] * n_row_values,
               (size_t)n_row_values * sizeof(float));
    }
    return 0;
}

static int build_table(struct golden_case *golden, struct rope *rope)
{
    int64_t height = 0, width = 0, patch = 0;
    int64_t axes_dim[2];
    double axis = 0.0;
    double theta = 0.0;
    float *grid = NULL;

    PRX_TRY(golden_integer(golden, "height", &height));
    PRX_TRY(golden_integer(golden, "width", &width));
    PRX_TRY(golden_integer(golden, "patch_size", &patch));
    PRX_TRY(golden_number(golden, "theta", &theta));
    for (size_t i = 0; i < 2; i++) {
        PRX_TRY(golden_element(golden, "axes_dim", i, &axis));
        axes_dim[i] = (int64_t)axis;
    }
    if (patch < 1 || height < 1 || width < 1 || height > 4096 || width > 4096 ||
        axes_dim[0] < 0 || axes_dim[1] < 0 ||
        axes_dim[0] + axes_dim[1] != rope->head_size)
        return prx_err(PRX_EINVAL, "config is not a grid for in.x");
    rope->n_grid_tokens = (height / patch) * (width / patch);
    PRX_TRY(golden_alloc(golden, (size_t)(rope->n_grid_tokens * rope->head_size),
                         sizeof(float), &grid));
    prx_rope_table(height / patch, width / patch, axes_dim, theta, grid);
    if (prx_st_find(&golden->file, "in.visible_idx"))
        return gather_table(golden, rope, grid);
    if (rope->n_tokens != rope->n_grid_tokens)
        return prx_err(PRX_ESHAPE, "in.x has not the grid's tokens");
    rope->n_tables = 1;
    rope->table = grid;
    return 0;
}

/* out.cos and out.sin: [N, HD/2], or with visible_idx [B, n, HD/2]. */
static int put_table(struct golden_case *golden, const struct rope *rope,
                     const char *name, int64_t i_part)
{
    int64_t half = rope->head_size / 2;
    int64_t n_rows = rope->n_tables * rope->n_tokens;
    int64_t dims[3] = {rope->batch, rope->n_tokens, half};
    bool is_gathered = prx_st_find(&golden->file, "in.visible_idx") != NULL;
    float *values = NULL;

    PRX_TRY(golden_alloc(golden, (size_t)(n_rows * half), sizeof(float), &values));
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(values + i * half, rope->table + (2 * i + i_part) * half,
               (size_t)half * sizeof(float));
    return golden_put(golden, name, PRX_ST_F32, is_gathered ? 3 : 2,
                      is_gathered ? dims : dims + 1, values);
}

/* [B, NH, N, HD] to [B, N, NH, HD] and back: swap the middle dimensions. */
static void swap_heads(const float *in, int64_t batch, int64_t n_outer, int64_t n_inner,
                       int64_t head_size, float *out)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < n_outer; i++)
            for (int64_t j = 0; j < n_inner; j++)
                memcpy(out + ((b * n_inner + j) * n_outer + i) * head_size,
                       in + ((b * n_outer + i) * n_inner + j) * head_size,
                       (size_t)head_size * sizeof(float));
}

/* The op that rotates also norms: its norm is taken out again, [B, N, NH, HD]. */
static int rotate(struct golden_case *golden, const struct rope *rope, float *x)
{
    struct prx_backend *be = golden->be;
    int64_t dims[3] = {rope->batch, rope->n_tokens, rope->n_heads * rope->head_size};
    int64_t rrms_dims[3] = {rope->batch, rope->n_tokens, rope->n_heads};
    int64_t rope_dims[4] = {rope->n_tables, rope->n_tokens, 2, rope->head_size / 2};
    int64_t n_rows = rope->batch * rope->n_tokens * rope->n_heads;
    struct prx_tensor in, out, rrms, scale, table;
    float *ones = NULL;
    float *rrms_values = NULL;

    PRX_TRY(golden_device(golden, PRX_F32, 3, dims, &in));
    PRX_TRY(golden_device(golden, PRX_F32, 3, dims, &out));
    PRX_TRY(golden_device(golden, PRX_F32, 3, rrms_dims, &rrms));
    PRX_TRY(golden_device(golden, PRX_F32, 1, &rope->head_size, &scale));
    PRX_TRY(golden_device(golden, PRX_F32, 4, rope_dims, &table));
    PRX_TRY(golden_alloc(golden, (size_t)rope->head_size, sizeof(float), &ones));
    PRX_TRY(golden_alloc(golden, (size_t)n_rows, sizeof(float), &rrms_values));
    for (int64_t i = 0; i < rope->head_size; i++)
        ones[i] = 1.0f;
    PRX_TRY(prx_tensor_set(be, &in, x));
    PRX_TRY(prx_tensor_set(be, &scale, ones));
    PRX_TRY(prx_tensor_set(be, &table, rope->table));
    PRX_TRY(
        be->ops->head_norm_rope_fwd(be, &out, &rrms, &in, 0, &scale, &table, 1e-6f));
    PRX_TRY(prx_tensor_get(be, &out, x));
    PRX_TRY(prx_tensor_get(be, &rrms, rrms_values));
    for (int64_t i = 0; i < n_rows * rope->head_size; i++)
        x[i] /= rrms_values[i / rope->head_size];
    return 0;
}

static int run_rope_table(struct golden_case *golden)
{
    const struct prx_st_tensor *in = NULL;
    const float *x = NULL;
    float *work = NULL;
    float *rotated = NULL;

    PRX_TRY(golden_floats(golden, "in.x", 4, &in, &x));
    struct rope rope = {
        .batch = in->dims[0],
        .n_heads = in->dims[1],
        .n_tokens = in->dims[2],
        .head_size = in->dims[3],
    };
    PRX_TRY(build_table(golden, &rope));
    PRX_TRY(put_table(golden, &rope, "out.cos", 0));
    PRX_TRY(put_table(golden, &rope, "out.sin", 1));
    PRX_TRY(golden_alloc(golden, in->n_bytes, 1, &work));
    PRX_TRY(golden_alloc(golden, in->n_bytes, 1, &rotated));
    swap_heads(x, rope.batch, rope.n_heads, rope.n_tokens, rope.head_size, work);
    PRX_TRY(rotate(golden, &rope, work));
    swap_heads(work, rope.batch, rope.n_tokens, rope.n_heads, rope.head_size, rotated);
    return golden_put(golden, "out.rotated", PRX_ST_F32, 4, in->dims, rotated);
}

const struct golden_op golden_denoiser_ops[] = {
    {"denoiser_forward", run_forward},
    {"denoiser_train", run_train},
    {"denoiser_train_seeded", run_train},
    {"jit_train", run_train},
    {"tread_train", run_train},
    {"sprint_train", run_train},
    {"jit_forward", run_jit_forward},
    {"rope_table", run_rope_table},
    {NULL, NULL},
};
