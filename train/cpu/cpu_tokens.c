/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that place numbers: patches, joined tokens; copies in runs. */
#include "train/cpu/cpu_internal.h"
#include "train/ref/ref_internal.h"

#include <string.h>

enum direction { TO_TOKENS,
                 TO_IMAGE };

/* A run of P pixels of an image row is a run of its token, too. */
static void copy_patches(prx_be *be, const struct prx_patch_dims *d, float *tokens,
                         float *image, enum direction direction)
{
    int64_t n_rows = d->B * d->C * d->H; /* of the image */
    int64_t n_across = d->W / d->P, n_down = d->H / d->P;
    size_t run_bytes = (size_t)d->P * sizeof(float);
    int n_team = prx_cpu_team(be, n_rows * d->W / PRX_CPU_RUN);

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < n_rows; i++) {
        int64_t y = i % d->H, c = i / d->H % d->C, b = i / d->H / d->C;
        int64_t n = (b * n_down + y / d->P) * n_across;
        float *row = image + i * d->W;
        for (int64_t column = 0; column < n_across; column++, n++, row += d->P) {
            float *run = tokens + ((n * d->C + c) * d->P + y % d->P) * d->P;
            if (direction == TO_TOKENS)
                memcpy(run, row, run_bytes);
            else
                memcpy(row, run, run_bytes);
        }
    }
}

int prx_cpu_patchify(prx_be *be, prx_t *y, prx_ct *x, int64_t patch)
{
    struct prx_patch_dims d;
    PRX_TRY(prx_match_patch(&d, "patchify", y, x, patch));
    copy_patches(be, &d, y->data, x->data, TO_TOKENS);
    return 0;
}

int prx_cpu_unpatchify(prx_be *be, prx_t *x, prx_ct *y, int64_t patch)
{
    struct prx_patch_dims d;
    PRX_TRY(prx_match_patch(&d, "unpatchify", y, x, patch));
    copy_patches(be, &d, y->data, x->data, TO_IMAGE);
    return 0;
}

static void copy_floats(float *to, const float *from, int64_t n)
{
    if (n > 0)
        memcpy(to, from, (size_t)n * sizeof(float));
}

int prx_cpu_concat_tokens_fwd(prx_be *be, prx_t *y, prx_ct *a, prx_ct *x)
{
    struct prx_concat_dims d;
    PRX_TRY(prx_match_concat(&d, "concat_tokens_fwd", y, a, x));
    int64_t n_a = d.LA * d.X, n_x = d.LX * d.X;
    (void)be;

    for (int64_t b = 0; b < d.B; b++) {
        float *out = (float *)y->data + b * (n_a + n_x);
        copy_floats(out, (const float *)a->data + b * n_a, n_a);
        copy_floats(out + n_a, (const float *)x->data + b * n_x, n_x);
    }
    return 0;
}

int prx_cpu_concat_tokens_bwd(prx_be *be, prx_t *da, prx_t *dx, prx_ct *dy)
{
    struct prx_concat_dims d;
    PRX_TRY(prx_match_concat(&d, "concat_tokens_bwd", dy, da, dx));
    int64_t n_a = d.LA * d.X, n_x = d.LX * d.X;
    (void)be;

    for (int64_t b = 0; b < d.B; b++) {
        const float *in = (const float *)dy->data + b * (n_a + n_x);
        if (da)
            copy_floats((float *)da->data + b * n_a, in, n_a);
        if (dx)
            copy_floats((float *)dx->data + b * n_x, in + n_a, n_x);
    }
    return 0;
}

/* A few hundred numbers a step: the specification is quick enough. */
int prx_cpu_sinusoid(prx_be *be, prx_t *y, int64_t col, int64_t dim, prx_ct *v,
                     float factor, float max_period)
{
    return prx_ref_sinusoid(be, y, col, dim, v, factor, max_period);
}
