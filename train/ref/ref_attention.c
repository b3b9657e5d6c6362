/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of image queries over text and image keys, one score at a time.
 *
 * Keys 0 .. L-1 are text, L .. L+M-1 image.  A score is computed anew wherever it
 * is needed: this file shows what is meant, not how to be quick.
 */
#include "train/ref/ref_internal.h"

#include <math.h>

/* Where the keys' vectors lie: columns of rows of text, then of image tokens. */
struct keyed {
    const float *text;
    const float *image;
    int64_t text_stride, image_stride;
};

struct problem {
    struct prx_attention_dims d;
    double scale; /* 1/sqrt(HD) */
    const float *q;
    struct keyed k, v;
    const int32_t *mask;
};

/* Keys of width D, or values: a block of columns of wider rows. */
static struct keyed keyed(prx_ct *image, int64_t col, prx_ct *text, int64_t col_text)
{
    struct keyed rows = {.image = (const float *)image->data + col,
                         .image_stride = image->dims[2]};
    if (!prx_tensor_is_absent(text)) {
        rows.text = (const float *)text->data + col_text;
        rows.text_stride = text->dims[2];
    }
    return rows;
}

static int match(struct problem *p, const char *op,
                 const struct prx_attention_tensors *t, int64_t n_heads)
{
    PRX_TRY(prx_match_attention(&p->d, op, t, n_heads));
    p->scale = 1.0 / sqrt((double)p->d.HD);
    p->q = t->q->data;
    p->k = keyed(t->k, 0, t->kt, 0);
    p->v = keyed(t->v, t->col_v, t->vt, t->col_vt);
    p->mask = prx_tensor_is_absent(t->mask) ? NULL : t->mask->data;
    return 0;
}

static bool is_visible(const struct problem *p, int64_t b, int64_t j)
{
    return j >= p->d.L || !p->mask || p->mask[b * p->d.L + j] != 0;
}

/* Offset of head h of key j, in the text or image rows it belongs to. */
static const float *row_of(const struct problem *p, const struct keyed *rows, int64_t b,
                           int64_t h, int64_t j)
{
    return j < p->d.L ? rows->text + (b * p->d.L + j) * rows->text_stride + h * p->d.HD
                      : rows->image + (b * p->d.M + j - p->d.L) * rows->image_stride +
                            h * p->d.HD;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* Where head h of query i begins in q, o and their gradients. */
static int64_t head_at(const struct problem *p, int64_t b, int64_t h, int64_t i)
{
    return ((b * p->d.N + i) * p->d.NH + h) * p->d.HD;
}

static double score(const struct problem *p, int64_t b, int64_t h, int64_t i, int64_t j)
{
    return p->scale *
           dot(p->q + head_at(p, b, h, i), row_of(p, &p->k, b, h, j), p->d.HD);
}

static void attend(const struct problem *p, int64_t b, int64_t h, int64_t i, float *o,
                   float *lse)
{
    double top = -INFINITY, sum = 0.0;

    for (int64_t j = 0; j < p->d.L + p->d.M; j++)
        if (is_visible(p, b, j))
            top = fmax(top, score(p, b, h, i, j));
    for (int64_t j = 0; j < p->d.L + p->d.M; j++)
        if (is_visible(p, b, j))
            sum += exp(score(p, b, h, i, j) - top);
    *lse = sum > 0.0 ? (float)(top + log(sum)) : -INFINITY;
    for (int64_t d = 0; d < p->d.HD; d++) {
        double mix = 0.0;
        for (int64_t j = 0; j < p->d.L + p->d.M; j++)
            if (is_visible(p, b, j))
                mix += exp(score(p, b, h, i, j) - top) / sum *
                       row_of(p, &p->v, b, h, j)[d];
        o[d] = (float)mix;
    }
}

int prx_ref_attention_fwd(prx_be *be, prx_t *o, prx_t *lse, prx_ct *q, prx_ct *k,
                          prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                          int64_t col_vt, prx_ct *mask, int64_t n_heads)
{
    struct prx_attention_tensors tensors = {o, lse, q, k, v,
                                            kt, vt, mask, col_v, col_vt};
    struct problem p;
    (void)be;
    PRX_TRY(match(&p, "attention_fwd", &tensors, n_heads));

    for (int64_t b = 0; b < p.d.B; b++)
        for (int64_t h = 0; h < p.d.NH; h++)
            for (int64_t i = 0; i < p.d.N; i++)
                attend(&p, b, h, i, (float *)o->data + head_at(&p, b, h, i),
                       (float *)lse->data + (b * p.d.NH + h) * p.d.N + i);
    return 0;
}

/* The gradients' places; those of keys and values follow struct keyed. */
struct gradients {
    float *dq;
    struct keyed dk, dv;
};

/* Writable twin of row_of(). */
static float *grad_row(const struct problem *p, const struct keyed *rows, int64_t b,
                       int64_t h, int64_t j)
{
    return (float *)row_of(p, rows, b, h, j);
}

/*
 * One head of one sample:
 *     P = exp(s - lse), dP = do v^T, dS = P (dP - do.o)
 *     dq = scale dS k,  dk = scale dS^T q,  dv = P^T do
 */
static void attend_bwd(const struct problem *p, const struct gradients *g,
                       const float *do_, const float *o, const float *lse, int64_t b,
                       int64_t h)
{
    for (int64_t i = 0; i < p->d.N; i++)
        for (int64_t d = 0; d < p->d.HD; d++)
            g->dq[head_at(p, b, h, i) + d] = 0.0F;
    for (int64_t j = 0; j < p->d.L + p->d.M; j++) {
        float *dk = grad_row(p, &g->dk, b, h, j);
        float *dv = grad_row(p, &g->dv, b, h, j);
        for (int64_t d = 0; d < p->d.HD; d++)
            dk[d] = dv[d] = 0.0F;
        if (!is_visible(p, b, j))
            continue;
        for (int64_t i = 0; i < p->d.N; i++) {
            int64_t at = head_at(p, b, h, i);
            double weight =
                exp(score(p, b, h, i, j) - lse[(b * p->d.NH + h) * p->d.N + i]);
            double dweight = dot(do_ + at, row_of(p, &p->v, b, h, j), p->d.HD) -
                             dot(do_ + at, o + at, p->d.HD);
            double dscore = p->scale * weight * dweight;
            for (int64_t d = 0; d < p->d.HD; d++) {
                g->dq[at + d] += (float)(dscore * row_of(p, &p->k, b, h, j)[d]);
                dk[d] += (float)(dscore * p->q[at + d]);
                dv[d] += (float)(weight * do_[at + d]);
            }
        }
    }
}

int prx_ref_attention_bwd(prx_be *be, prx_t *dq, prx_t *dk, prx_t *dv, prx_t *dkt,
                          prx_t *dvt, prx_ct *do_, prx_ct *o, prx_ct *lse, prx_ct *q,
                          prx_ct *k, prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                          int64_t col_vt, prx_ct *mask, int64_t n_heads)
{
    struct prx_attention_tensors tensors = {o, lse, q, k, v,
                                            kt, vt, mask, col_v, col_vt};
    struct problem p;
    (void)be;
    PRX_TRY(match(&p, "attention_bwd", &tensors, n_heads));
    PRX_TRY(prx_match_attention_grad(&p.d, "attention_bwd", do_, dq, dk, dv, dkt, dvt));
    struct gradients g = {
        .dq = dq->data,
        .dk = keyed(dk, 0, p.d.L > 0 ? dkt : NULL, 0),
        .dv = keyed(dv, col_v, p.d.L > 0 ? dvt : NULL, col_vt),
    };

    for (int64_t b = 0; b < p.d.B; b++)
        for (int64_t h = 0; h < p.d.NH; h++)
            attend_bwd(&p, &g, do_->data, o->data, lse->data, b, h);
    return 0;
}
