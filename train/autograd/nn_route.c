/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of token routing: gather, merge and fill tokens, join channels. */
#include "train/autograd/autograd_internal.h"

struct route_note {
    struct prx_note note;
    struct prx_var *x;
    struct prx_var *rest;    /* of merge_tokens */
    struct prx_param *token; /* of fill_tokens */
    struct prx_tensor idx;   // [B, M] i32
};

static struct prx_var *noted(struct prx_tape *tape, struct prx_var *y, prx_bwd_fn bwd,
                             struct prx_var *x, const struct prx_tensor *idx,
                             struct prx_var *rest, struct prx_param *token)
{
    struct route_note *note = prx_tape_note(tape, sizeof(*note), bwd, y);
    if (note) {
        note->x = x;
        note->rest = rest;
        note->token = token;
        note->idx = *idx;
    }
    return y;
}

static int gather_tokens_bwd(struct prx_tape *tape, const void *note)
{
    const struct route_note *n = note;
    struct prx_grad dx;

    PRX_TRY(prx_grad_open(tape, n->x, &dx));
    PRX_TRY(tape->be->ops->gather_tokens_bwd(tape->be, dx.to, dx.add,
                                             &n->note.out->grad, &n->idx));
    return prx_grad_close(tape, &dx);
}

struct prx_var *prx_nn_gather_tokens(struct prx_tape *tape, struct prx_var *x,
                                     const struct prx_tensor *idx)
{
    if (!x)
        return NULL;
    const int64_t *in = x->value.dims; // [B, N, X]
    int64_t dims[3] = {idx->dims[0], idx->dims[1], in[x->value.n_dims - 1]};
    struct prx_var *y = prx_tape_value(tape, 3, dims, x->needs_grad);
    if (!y || prx_tape_fails(tape, tape->be->ops->gather_tokens_fwd(
                                       tape->be, &y->value, &x->value, idx)))
        return NULL;
    return noted(tape, y, gather_tokens_bwd, x, idx, NULL, NULL);
}

static int merge_tokens_bwd(struct prx_tape *tape, const void *note)
{
    const struct route_note *n = note;
    struct prx_grad dx;
    struct prx_grad drest = {0};

    PRX_TRY(prx_grad_open_set(tape, n->x, &dx));
    if (n->rest->needs_grad)
        PRX_TRY(prx_grad_open(tape, n->rest, &drest));
    PRX_TRY(tape->be->ops->merge_tokens_bwd(tape->be, dx.to, drest.to, drest.add,
                                            &n->note.out->grad, &n->idx));
    return prx_grad_close(tape, &dx);
}

struct prx_var *prx_nn_merge_tokens(struct prx_tape *tape, struct prx_var *x,
                                    const struct prx_tensor *idx, struct prx_var *rest)
{
    if (!x || !rest)
        return NULL;
    struct prx_var *y =
        prx_tape_value_like(tape, rest, x->needs_grad || rest->needs_grad);
    if (!y ||
        prx_tape_fails(tape, tape->be->ops->merge_tokens_fwd(
                                 tape->be, &y->value, &x->value, idx, &rest->value)))
        return NULL;
    return noted(tape, y, merge_tokens_bwd, x, idx, rest, NULL);
}

/* One row, for all tokens of all samples, whatever the dims of the parameter. */
static struct prx_tensor as_row(const struct prx_tensor *token)
{
    int64_t n = prx_tensor_count(token);
    return prx_tensor_view(token, 1, &n);
}

static int fill_tokens_bwd(struct prx_tape *tape, const void *note)
{
    const struct route_note *n = note;
    struct prx_grad dx;
    struct prx_grad dtoken;

    PRX_TRY(prx_grad_open_set(tape, n->x, &dx));
    PRX_TRY(prx_grad_open_param(tape, n->token, &dtoken));
    struct prx_tensor row = as_row(dtoken.to);
    PRX_TRY(tape->be->ops->merge_tokens_bwd(tape->be, dx.to, &row, true,
                                            &n->note.out->grad, &n->idx));
    PRX_TRY(prx_grad_close(tape, &dtoken));
    return prx_grad_close(tape, &dx);
}

static int fill_tokens_fwd(struct prx_tape *tape, struct prx_tensor *y,
                           const struct prx_tensor *x, const struct prx_tensor *idx,
                           const struct prx_param *param)
{
    struct prx_weight token;

    PRX_TRY(prx_weight_open(tape, param, &token));
    struct prx_tensor row = as_row(&token.value);
    PRX_TRY(tape->be->ops->merge_tokens_fwd(tape->be, y, x, idx, &row));
    return prx_weight_close(tape, &token);
}

struct prx_var *prx_nn_fill_tokens(struct prx_tape *tape, struct prx_var *x,
                                   const struct prx_tensor *idx, int64_t n_tokens,
                                   struct prx_param *token)
{
    if (!x)
        return NULL;
    int64_t dims[3] = {x->value.dims[0], n_tokens, x->value.dims[2]};
    struct prx_var *y =
        prx_tape_value(tape, 3, dims, x->needs_grad || token->grad.data);
    if (!y || prx_tape_fails(
                  tape, fill_tokens_fwd(tape, &y->value, &x->value, idx, token)))
        return NULL;
    return noted(tape, y, fill_tokens_bwd, x, idx, NULL, token);
}

/* Rows as samples, channels as one token each: joining tokens joins channels. */
static struct prx_tensor as_tokens(const struct prx_tensor *x, int64_t n_tokens)
{
    int64_t n_rows = prx_tensor_rows(x);
    int64_t width = x->dims[x->n_dims - 1] / n_tokens;

    return prx_tensor_view(x, 3, (int64_t[]){n_rows, n_tokens, width});
}

static int concat_channels_bwd(struct prx_tape *tape, const void *note)
{
    const struct route_note *n = note;
    struct prx_grad da;
    struct prx_grad db;

    PRX_TRY(prx_grad_open_set(tape, n->x, &da));
    PRX_TRY(prx_grad_open_set(tape, n->rest, &db));
    struct prx_tensor to_a = as_tokens(da.to, 1), to_b = as_tokens(db.to, 1);
    struct prx_tensor dy = as_tokens(&n->note.out->grad, 2);
    PRX_TRY(tape->be->ops->concat_tokens_bwd(tape->be, &to_a, &to_b, &dy));
    PRX_TRY(prx_grad_close(tape, &db));
    return prx_grad_close(tape, &da);
}

struct prx_var *prx_nn_concat_channels(struct prx_tape *tape, struct prx_var *a,
                                       struct prx_var *b)
{
    if (!a || !b)
        return NULL;
    if (!prx_tensor_same_shape(&a->value, &b->value)) {
        (void)prx_tape_fails(tape, prx_err(PRX_ESHAPE, "concat_channels: two shapes"));
        return NULL;
    }
    int n_dims = a->value.n_dims;
    int64_t dims[PRX_DIMS_MAX];
    for (int i = 0; i < n_dims; i++)
        dims[i] = a->value.dims[i];
    dims[n_dims - 1] *= 2;
    struct prx_var *y =
        prx_tape_value(tape, n_dims, dims, a->needs_grad || b->needs_grad);
    if (!y)
        return NULL;
    struct prx_tensor of_a = as_tokens(&a->value, 1), of_b = as_tokens(&b->value, 1);
    struct prx_tensor of_y = as_tokens(&y->value, 2);
    if (prx_tape_fails(
            tape, tape->be->ops->concat_tokens_fwd(tape->be, &of_y, &of_a, &of_b)))
        return NULL;
    return noted(tape, y, concat_channels_bwd, a, &(struct prx_tensor){0}, b, NULL);
}
