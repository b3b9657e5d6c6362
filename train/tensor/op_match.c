/* SPDX-License-Identifier: Apache-2.0 */
/* The contracts of train/ops.h, checked; each once, for all implementations. */
#include "train/dims.h"
#include "train/ops.h"

#include <inttypes.h>

static int64_t get(const struct prx_dims *dims, const char *name)
{
    return prx_dims_get(dims, name);
}

/* Name the op in a failure of the matcher, which knows only the contract. */
static int match_failed(int rc, const char *op)
{
    return rc < 0 ? prx_err_frame(rc, "%s", op) : rc;
}

#define MATCH(op, dims, ...) \
 PRX_TRY(match_failed(prx_dims_match(dims, __VA_ARGS__), op))

/* Columns @col .. @col + @width - 1 lie within @n_cols. */
static int check_block(const char *op, int64_t col, int64_t width, int64_t n_cols)
{
    if (col < 0 || width < 0 || width > n_cols || col > n_cols - width)
        return prx_err(PRX_ESHAPE,
                       "%s: no %" PRId64 " columns from %" PRId64
                       " in rows of %" PRId64,
                       op, width, col, n_cols);
    return 0;
}

int prx_match_linear(struct prx_linear_dims *out, const char *op,
                     const struct prx_tensor *y, const struct prx_tensor *x,
                     const struct prx_tensor *w, const struct prx_tensor *b)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [R O], x [R I], w [O I], b? [O]", y, x, w, b);
    *out = (struct prx_linear_dims){get(&dims, "R"), get(&dims, "I"), get(&dims, "O")};
    return 0;
}

int prx_match_linear_grad(const struct prx_linear_dims *d, const char *op,
                          const struct prx_tensor *dx, const struct prx_tensor *dw,
                          const struct prx_tensor *db)
{
    struct prx_dims dims = {0};
    prx_dims_bind(&dims, "R", d->R);
    prx_dims_bind(&dims, "I", d->I);
    prx_dims_bind(&dims, "O", d->O);
    MATCH(op, &dims, "dx? [R I], dw? [O I], db? [O]", dx, dw, db);
    return 0;
}

int prx_match_elements(int64_t *count, const char *op, const struct prx_tensor *a,
                       const struct prx_tensor *b, const struct prx_tensor *c)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "a [R]", a);
    if (b)
        MATCH(op, &dims, "b [R]", b);
    if (c)
        MATCH(op, &dims, "c [R]", c);
    *count = get(&dims, "R");
    return 0;
}

int prx_match_cast(int64_t *count, const char *op, const struct prx_tensor *y,
                   const struct prx_tensor *x)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y~ [R], x~ [R]", y, x);
    *count = get(&dims, "R");
    return 0;
}

int prx_match_sinusoid(struct prx_sinusoid_dims *out, const char *op,
                       const struct prx_tensor *y, int64_t col, int64_t dim,
                       const struct prx_tensor *v)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [B X], v [B]", y, v);
    *out = (struct prx_sinusoid_dims){get(&dims, "B"), get(&dims, "X")};
    if (dim % 2 != 0)
        return prx_err(PRX_ESHAPE, "%s: an odd width of %" PRId64, op, dim);
    return check_block(op, col, dim, out->X);
}

int prx_match_patch(struct prx_patch_dims *out, const char *op,
                    const struct prx_tensor *tokens, const struct prx_tensor *image,
                    int64_t patch)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "tokens [B N X], image [B C H W]", tokens, image);
    *out = (struct prx_patch_dims){
        .B = get(&dims, "B"),
        .C = get(&dims, "C"),
        .H = get(&dims, "H"),
        .W = get(&dims, "W"),
        .P = patch,
    };
    if (patch < 1 || out->H % patch != 0 || out->W % patch != 0 ||
        get(&dims, "N") != (out->H / patch) * (out->W / patch) ||
        get(&dims, "X") / patch / patch != out->C || get(&dims, "X") % patch != 0 ||
        get(&dims, "X") / patch % patch != 0)
        return prx_err(PRX_ESHAPE, "%s: not patches of %" PRId64, op, patch);
    return 0;
}

int prx_match_concat(struct prx_concat_dims *out, const char *op,
                     const struct prx_tensor *y, const struct prx_tensor *a,
                     const struct prx_tensor *x)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [B L X]", y);
    if (a)
        MATCH(op, &dims, "a [B LA X]", a);
    if (x)
        MATCH(op, &dims, "x [B LX X]", x);
    int64_t L = get(&dims, "L");
    *out = (struct prx_concat_dims){
        .B = get(&dims, "B"),
        .LA = a   ? get(&dims, "LA")
              : x ? L - get(&dims, "LX")
                  : 0,
        .LX = x   ? get(&dims, "LX")
              : a ? L - get(&dims, "LA")
                  : L,
        .X = get(&dims, "X"),
    };
    if (out->LA < 0 || out->LX < 0 || out->LA + out->LX != L)
        return prx_err(PRX_ESHAPE, "%s: %" PRId64 " tokens of %" PRId64 " and %" PRId64,
                       op, L, out->LA, out->LX);
    return 0;
}

int prx_match_gather(struct prx_gather_dims *out, const char *op,
                     const struct prx_tensor *y, const struct prx_tensor *x,
                     const struct prx_tensor *idx)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [B M X], x [G N X], idx# [B M]", y, x, idx);
    *out = (struct prx_gather_dims){
        .B = get(&dims, "B"),
        .N = get(&dims, "N"),
        .M = get(&dims, "M"),
        .X = get(&dims, "X"),
    };
    if (get(&dims, "G") != 1 && get(&dims, "G") != out->B)
        return prx_err(PRX_ESHAPE, "%s: x is not [1 or B, N, X]", op);
    out->x_stride = get(&dims, "G") == 1 ? 0 : out->N * out->X;
    return 0;
}

int prx_match_merge(struct prx_merge_dims *out, const char *op,
                    const struct prx_tensor *y, const struct prx_tensor *x,
                    const struct prx_tensor *idx, const struct prx_tensor *rest)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [B N X], idx# [B M], x? [B M X]", y, idx, x);
    *out = (struct prx_merge_dims){
        .B = get(&dims, "B"),
        .N = get(&dims, "N"),
        .M = get(&dims, "M"),
        .X = get(&dims, "X"),
        .is_shared = !prx_tensor_is_absent(rest) && rest->n_dims == 1,
    };
    if (out->is_shared)
        MATCH(op, &dims, "rest [X]", rest);
    else
        MATCH(op, &dims, "rest? [B N X]", rest);
    return 0;
}

int prx_match_indices(const char *op, const int32_t *idx, int64_t M, int64_t N)
{
    for (int64_t m = 0; m < M; m++)
        if (idx[m] < 0 || idx[m] >= N)
            return prx_err(PRX_EINVAL, "%s: no token %d of %" PRId64, op, (int)idx[m],
                           N);
    return 0;
}

int prx_match_modulate(struct prx_modulate_dims *out, const char *op,
                       const struct prx_tensor *x, const struct prx_tensor *y,
                       const struct prx_tensor *mod, int i_block)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "x [B N D], y [B N D], mod [B K]", x, y, mod);
    *out = (struct prx_modulate_dims){get(&dims, "B"), get(&dims, "N"), get(&dims, "D"),
                                      get(&dims, "K")};
    return check_block(op, i_block * out->D, out->D, out->K);
}

int prx_match_row_stats(const struct prx_modulate_dims *d, const char *op,
                        const struct prx_tensor *mean, const struct prx_tensor *rstd)
{
    struct prx_dims dims = {0};
    prx_dims_bind(&dims, "R", d->B * d->N);
    MATCH(op, &dims, "mean [R], rstd [R]", mean, rstd);
    return 0;
}

int prx_match_head_norm(struct prx_head_norm_dims *out, const char *op,
                        const struct prx_tensor *y, const struct prx_tensor *x,
                        int64_t col, const struct prx_tensor *rrms,
                        const struct prx_tensor *scale, const struct prx_tensor *rope)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "y [B N D], x [B N X], rrms [B N NH], scale [HD]", y, x, rrms,
          scale);
    *out = (struct prx_head_norm_dims){
        .B = get(&dims, "B"),
        .N = get(&dims, "N"),
        .NH = get(&dims, "NH"),
        .HD = get(&dims, "HD"),
        .X = get(&dims, "X"),
    };
    if (out->NH * out->HD != get(&dims, "D"))
        return prx_err(PRX_ESHAPE,
                       "%s: no %" PRId64 " heads of %" PRId64 " in %" PRId64, op,
                       out->NH, out->HD, get(&dims, "D"));
    if (!prx_tensor_is_absent(rope)) {
        MATCH(op, &dims, "rope [G N 2 M]", rope);
        int64_t G = get(&dims, "G");
        if (out->HD != 2 * get(&dims, "M") || (G != 1 && G != out->B))
            return prx_err(PRX_ESHAPE, "%s: rope is not [1 or B, N, 2, HD/2]", op);
        out->rope_stride = G == 1 ? 0 : out->N * out->HD;
    }
    return check_block(op, col, out->NH * out->HD, out->X);
}

int prx_match_attention(struct prx_attention_dims *out, const char *op,
                        const struct prx_attention_tensors *tensors, int64_t n_heads)
{
    struct prx_dims dims = {0};
    bool has_text = !prx_tensor_is_absent(tensors->kt);
    MATCH(op, &dims,
          "o [B N D], q [B N D], lse [B NH N], k [B M D], v [B M XV], kt? [B L D],"
          " vt? [B L XT], mask?# [B L]",
          tensors->o, tensors->q, tensors->lse, tensors->k, tensors->v, tensors->kt,
          tensors->vt, has_text ? tensors->mask : NULL);
    int64_t D = get(&dims, "D");
    if (n_heads < 1 || n_heads != get(&dims, "NH") || D % n_heads != 0 || D == 0)
        return prx_err(PRX_ESHAPE, "%s: no %" PRId64 " heads in %" PRId64 " columns",
                       op, n_heads, D);
    if (has_text == prx_tensor_is_absent(tensors->vt))
        return prx_err(PRX_ESHAPE, "%s: text keys and values go together", op);
    *out = (struct prx_attention_dims){
        .B = get(&dims, "B"),
        .N = get(&dims, "N"),
        .M = get(&dims, "M"),
        .L = get(&dims, "L"),
        .NH = n_heads,
        .HD = D / n_heads,
        .XV = get(&dims, "XV"),
        .XT = get(&dims, "XT"),
    };
    if (has_text)
        PRX_TRY(check_block(op, tensors->col_vt, D, out->XT));
    return check_block(op, tensors->col_v, D, out->XV);
}

int prx_match_attention_grad(const struct prx_attention_dims *d, const char *op,
                             const struct prx_tensor *do_, const struct prx_tensor *dq,
                             const struct prx_tensor *dk, const struct prx_tensor *dv,
                             const struct prx_tensor *dkt, const struct prx_tensor *dvt)
{
    struct prx_dims dims = {0};
    prx_dims_bind(&dims, "B", d->B);
    prx_dims_bind(&dims, "N", d->N);
    prx_dims_bind(&dims, "M", d->M);
    prx_dims_bind(&dims, "D", d->NH * d->HD);
    prx_dims_bind(&dims, "XV", d->XV);
    MATCH(op, &dims, "do [B N D], dq [B N D], dk [B M D], dv [B M XV]", do_, dq, dk,
          dv);
    if (d->L == 0)
        return 0;
    prx_dims_bind(&dims, "L", d->L);
    prx_dims_bind(&dims, "XT", d->XT);
    MATCH(op, &dims, "dkt [B L D], dvt [B L XT]", dkt, dvt);
    return 0;
}

int prx_match_samples(struct prx_sample_dims *out, const char *op,
                      const struct prx_tensor *a, const struct prx_tensor *b,
                      const struct prx_tensor *c, const struct prx_tensor *each)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "a [R], b [R], c? [R], each? [B]", a, b, c, each);
    *out = (struct prx_sample_dims){.B = a->dims[0]};
    out->n_each = out->B > 0 ? get(&dims, "R") / out->B : 0;
    if (b->dims[0] != out->B ||
        (!prx_tensor_is_absent(each) && get(&dims, "B") != out->B))
        return prx_err(PRX_ESHAPE, "%s: not the same number of samples", op);
    return 0;
}

int prx_match_scalar(const char *op, const struct prx_tensor *scalar)
{
    struct prx_dims dims = {0};
    MATCH(op, &dims, "scalar [1]", scalar);
    return 0;
}

int prx_match_list(const char *op, size_t n, const struct prx_tensor *tensors)
{
    int64_t count;
    for (size_t i = 0; i < n; i++)
        PRX_TRY(prx_match_elements(&count, op, &tensors[i], NULL, NULL));
    return 0;
}

int prx_match_pairs(const char *op, size_t n, const struct prx_tensor *ys,
                    const struct prx_tensor *xs)
{
    int64_t count;
    for (size_t i = 0; i < n; i++)
        PRX_TRY(prx_match_cast(&count, op, &ys[i], &xs[i]));
    return 0;
}

int prx_match_adamw(const char *op, size_t n, const struct prx_adamw_slot *slots)
{
    for (size_t i = 0; i < n; i++) {
        struct prx_dims dims = {0};
        MATCH(op, &dims, "p~ [R], g [R], m~ [R], v~ [R]", &slots[i].p, &slots[i].g,
              &slots[i].m, &slots[i].v);
    }
    return 0;
}

int prx_match_muon(const char *op, size_t n, const struct prx_muon_slot *slots)
{
    for (size_t i = 0; i < n; i++) {
        struct prx_dims dims = {0};
        MATCH(op, &dims, "p~ [O I], g [O I], m~ [O I]", &slots[i].p, &slots[i].g,
              &slots[i].m);
    }
    return 0;
}
