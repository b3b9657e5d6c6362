/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention, heads of samples shared out among threads.
 *
 * For each head the visible keys and values, text first, are gathered into rows side
 * by side, which also does away with the mask; gradients go back the same way.
 */
#include "train/cpu/attention_internal.h"
#include "train/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

#ifdef _OPENMP
# include <omp.h>
#endif

static const struct prx_attention_kernels *kernels(void)
{
    return PRX_SIMD_PICK(prx_attention_kernels);
}

/* Rows of text and image tokens, of width D or blocks of columns of wider rows. */
struct rows {
    float *text, *image;
    int64_t text_stride, image_stride;
};

static struct rows rows(prx_ct *image, int64_t col, prx_ct *text, int64_t col_text)
{
    struct rows rows = {.image = (float *)image->data + col,
                        .image_stride = image->dims[2]};
    if (!prx_tensor_is_absent(text)) {
        rows.text = (float *)text->data + col_text;
        rows.text_stride = text->dims[2];
    }
    return rows;
}

struct job {
    struct prx_attention_dims d;
    int64_t HDP;
    float scale;
    struct rows k, v;
    const float *q;
    float *o, *lse;
    const int32_t *mask;
    bool backward; /* with what follows */
    const float *do_;
    float *dq;
    struct rows dk, dv;
    float *scratch; /* of every thread, scratch_floats each */
    int64_t scratch_floats;
};

/*
 * The next run of text keys of sample @b at or after @j that are all visible, or all
 * hidden; returns its length.
 */
static int64_t text_run(const struct job *job, int64_t b, int64_t j, bool *visible)
{
    const int32_t *mask = job->mask ? job->mask + b * job->d.L : NULL;
    int64_t end = mask ? j + 1 : job->d.L;

    *visible = !mask || mask[j] != 0;
    while (end < job->d.L && (mask[end] != 0) == *visible)
        end++;
    return end - j;
}

/* Head h of text key j, and of the first image key, of sample b. */
static float *text_row(const struct job *job, const struct rows *rows, int64_t b,
                       int64_t h, int64_t j)
{
    return rows->text + (b * job->d.L + j) * rows->text_stride + h * job->d.HD;
}

static float *image_row(const struct job *job, const struct rows *rows, int64_t b,
                        int64_t h)
{
    return rows->image + b * job->d.M * rows->image_stride + h * job->d.HD;
}

/* Returns the number of keys visible in sample @b. */
static int64_t gather(const struct job *job, const struct rows *rows, int64_t b,
                      int64_t h, float *to)
{
    int64_t n_keys = 0, HD = job->d.HD, HDP = job->HDP;
    bool visible = false;
    for (int64_t j = 0, n; j < job->d.L; j += n) {
        n = text_run(job, b, j, &visible);
        if (!visible)
            continue;
        kernels()->gather(to + n_keys * HDP, text_row(job, rows, b, h, j),
                          rows->text_stride, n, HD, HDP);
        n_keys += n;
    }
    kernels()->gather(to + n_keys * HDP, image_row(job, rows, b, h), rows->image_stride,
                      job->d.M, HD, HDP);
    return n_keys + job->d.M;
}

static void scatter(const struct job *job, const struct rows *rows, int64_t b,
                    int64_t h, const float *from)
{
    int64_t HD = job->d.HD, HDP = job->HDP;
    bool visible = false;
    for (int64_t j = 0, n; j < job->d.L; j += n) {
        n = text_run(job, b, j, &visible);
        if (visible) {
            kernels()->scatter(text_row(job, rows, b, h, j), rows->text_stride, from, n,
                               HD, HDP);
            from += n * HDP;
            continue;
        }
        for (int64_t i = j; i < j + n; i++)
            memset(text_row(job, rows, b, h, i), 0, (size_t)HD * sizeof(float));
    }
    kernels()->scatter(image_row(job, rows, b, h), rows->image_stride, from, job->d.M,
                       HD, HDP);
}

/* A query without keys: the sum over nothing, and the logarithm of it. */
static void attend_nothing(const struct prx_attention_head *head)
{
    size_t n_bytes = (size_t)head->HD * sizeof(float);
    for (int64_t i = 0; i < head->n_queries; i++) {
        if (head->dq) {
            memset(head->dq + i * head->stride, 0, n_bytes);
            continue;
        }
        memset(head->o + i * head->stride, 0, n_bytes);
        head->lse[i] = -INFINITY;
    }
}

static void run_head(const struct job *job, int64_t b, int64_t h, float *scratch)
{
    const struct prx_attention_dims *d = &job->d;
    int64_t n_packed = (d->L + d->M) * job->HDP;
    int64_t at = b * d->N * d->NH * d->HD + h * d->HD;
    float *k = scratch, *v = scratch + n_packed;
    struct prx_attention_head head = {
        .n_queries = d->N,
        .HD = d->HD,
        .HDP = job->HDP,
        .scale = job->scale,
        .k = k,
        .v = v,
        .q = job->q + at,
        .o = job->o + at,
        .stride = d->NH * d->HD,
        .lse = job->lse + (b * d->NH + h) * d->N,
        .work = scratch + 4 * n_packed,
    };
    head.n_keys = gather(job, &job->k, b, h, k);
    gather(job, &job->v, b, h, v);
    if (job->backward) {
        head.do_ = job->do_ + at;
        head.dq = job->dq + at;
        head.dk = scratch + 2 * n_packed;
        head.dv = scratch + 3 * n_packed;
    }
    if (head.n_keys == 0)
        attend_nothing(&head);
    else if (job->backward)
        kernels()->bwd(&head);
    else
        kernels()->fwd(&head);
    if (job->backward) {
        scatter(job, &job->dk, b, h, head.dk);
        scatter(job, &job->dv, b, h, head.dv);
    }
}

static int i_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static int run(prx_be *be, struct job *job)
{
    const struct prx_attention_dims *d = &job->d;
    int64_t n_keys = d->L + d->M, n_heads = d->B * d->NH;
    int n_team = prx_cpu_team(be, n_heads);

    job->scratch_floats =
        4 * n_keys * job->HDP + kernels()->work_floats(n_keys, job->HDP);
    job->scratch_floats = (job->scratch_floats + 15) / 16 * 16;
    PRX_TRY(prx_cpu_scratch(be, n_team * job->scratch_floats, &job->scratch));
#pragma omp parallel for schedule(dynamic) num_threads(n_team)
    for (int64_t i = 0; i < n_heads; i++)
        run_head(job, i / d->NH, i % d->NH,
                 job->scratch + i_thread() * job->scratch_floats);
    return 0;
}

static int job_init(struct job *job, const char *op,
                    const struct prx_attention_tensors *t, int64_t n_heads)
{
    *job = (struct job){0};
    PRX_TRY(prx_match_attention(&job->d, op, t, n_heads));
    int64_t tile_cols = kernels()->tile_cols;
    job->HDP = (job->d.HD + tile_cols - 1) / tile_cols * tile_cols;
    job->scale = (float)(1.0 / sqrt((double)job->d.HD));
    job->k = rows(t->k, 0, t->kt, 0);
    job->v = rows(t->v, t->col_v, t->vt, t->col_vt);
    job->q = t->q->data;
    job->o = t->o->data;
    job->lse = t->lse->data;
    job->mask = prx_tensor_is_absent(t->mask) ? NULL : t->mask->data;
    return 0;
}

int prx_cpu_attention_fwd(prx_be *be, prx_t *o, prx_t *lse, prx_ct *q, prx_ct *k,
                          prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                          int64_t col_vt, prx_ct *mask, int64_t n_heads)
{
    struct prx_attention_tensors tensors = {o, lse, q, k, v,
                                            kt, vt, mask, col_v, col_vt};
    struct job job;
    PRX_TRY(job_init(&job, "attention_fwd", &tensors, n_heads));
    return run(be, &job);
}

int prx_cpu_attention_bwd(prx_be *be, prx_t *dq, prx_t *dk, prx_t *dv, prx_t *dkt,
                          prx_t *dvt, prx_ct *do_, prx_ct *o, prx_ct *lse, prx_ct *q,
                          prx_ct *k, prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                          int64_t col_vt, prx_ct *mask, int64_t n_heads)
{
    struct prx_attention_tensors tensors = {o, lse, q, k, v,
                                            kt, vt, mask, col_v, col_vt};
    struct job job;
    PRX_TRY(job_init(&job, "attention_bwd", &tensors, n_heads));
    PRX_TRY(
        prx_match_attention_grad(&job.d, "attention_bwd", do_, dq, dk, dv, dkt, dvt));
    job.backward = true;
    job.do_ = do_->data;
    job.dq = dq->data;
    job.dk = rows(dk, 0, job.d.L > 0 ? dkt : NULL, 0);
    job.dv = rows(dv, col_v, job.d.L > 0 ? dvt : NULL, col_vt);
    return run(be, &job);
}
