/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Muon: momentum, made nearly orthogonal by products of matrices.
 *
 * Nothing is transposed: of a matrix with more rows than columns, X stays as it lies
 * and the products are those of the transpose, A = X^T X and X = a X + X B^T.
 * Rounding to bf16 is done on float32 arrays, between products that sum in float32.
 */
#include <math.h>

#include "train/cpu/gemm_internal.h"
#include "train/cpu/run_internal.h"

/* What a step works on: the parameter's shape, and memory. */
struct job {
    prx_be *be;
    const struct prx_muon_args *args;
    const struct prx_elementwise_kernels *kernels;
    enum prx_rounding rounding;
    int64_t O, I, S; /* S = min(O, I) */
    float *x;        // [O, I]
    float *bx;       // [O, I]
    float *a;        // [S, S]
    float *b;        // [S, S]
    float *caa;      // [S, S]
};

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* y = alpha x + z over @count elements, z may be NULL. */
static void scale_add(const struct job *job, float *y, double alpha, const float *x,
                      const float *z, enum prx_rounding rounding, int64_t count)
{
    int n_team = prx_cpu_team(job->be, prx_cpu_n_runs(count));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        job->kernels->scale_add(y + i, (float)alpha, x + i, z ? z + i : NULL, rounding,
                                prx_cpu_run(count - i));
}

/* A = X X^T, of the short side. */
static int multiply_sides(const struct job *job)
{
    bool tall = job->O > job->I;
    struct prx_gemm gemm = {
        .M = job->S,
        .N = job->S,
        .K = tall ? job->O : job->I,
        .a = job->x,
        .a_row = tall ? 1 : job->I,
        .a_k = tall ? job->I : 1,
        .b = job->x,
        .b_k = tall ? job->I : 1,
        .b_col = tall ? 1 : job->I,
        .c = job->a,
        .c_row = job->S,
    };
    return prx_cpu_gemm(job->be, &gemm);
}

/* caa = B A, where b holds c A. */
static int multiply_squares(const struct job *job)
{
    struct prx_gemm gemm = {
        .M = job->S,
        .N = job->S,
        .K = job->S,
        .a = job->b,
        .a_row = job->S,
        .a_k = 1,
        .b = job->a,
        .b_k = job->S,
        .b_col = 1,
        .c = job->caa,
        .c_row = job->S,
    };
    return prx_cpu_gemm(job->be, &gemm);
}

/* bx = B X, or X B^T. */
static int multiply_update(const struct job *job)
{
    bool tall = job->O > job->I;
    struct prx_gemm gemm = {
        .M = job->O,
        .N = job->I,
        .K = job->S,
        .a = tall ? job->x : job->b,
        .a_row = job->S,
        .a_k = 1,
        .b = tall ? job->b : job->x,
        .b_k = tall ? 1 : job->I,
        .b_col = tall ? job->S : 1,
        .c = job->bx,
        .c_row = job->I,
    };
    return prx_cpu_gemm(job->be, &gemm);
}

static int iterate(const struct job *job)
{
    const struct prx_muon_args *args = job->args;
    enum prx_rounding rounding = job->rounding;
    /* c A is a result of its own only where each is rounded. */
    enum prx_rounding within =
        rounding == PRX_ROUND_EACH ? PRX_ROUND_EACH : PRX_ROUND_NONE;
    int64_t n_square = job->S * job->S, count = job->O * job->I;

    PRX_TRY(multiply_sides(job));
    if (rounding != PRX_ROUND_NONE)
        scale_add(job, job->a, 1.0, job->a, NULL, rounding, n_square);
    scale_add(job, job->b, args->c, job->a, NULL, within, n_square);
    PRX_TRY(multiply_squares(job));
    scale_add(job, job->b, args->b, job->a, job->caa, rounding, n_square);
    PRX_TRY(multiply_update(job));
    scale_add(job, job->x, args->a, job->x, job->bx, rounding, count);
    return 0;
}

/* Momentum and update of a run; returns the update's sum of squares. */
static double begin_run(const struct job *job, const struct prx_muon_slot *slot,
                        const struct prx_muon_rates *rates, int64_t at, int64_t n)
{
    float room[PRX_CPU_RUN];
    float *m = prx_run_open(job->kernels, &slot->m, at, n, room);
    float *u = job->x + at;

    job->kernels->muon(m, u, (const float *)slot->g.data + at, n, rates);
    prx_run_close(job->kernels, &slot->m, at, n, m);
    if (job->rounding != PRX_ROUND_NONE)
        job->kernels->scale_add(u, 1.0F, u, NULL, job->rounding, n);
    return job->kernels->sumsq(u, n);
}

static float divisor_of(const struct job *job, double norm)
{
    const struct prx_muon_args *args = job->args;
    bool adds = args->eps_mode == PRX_MUON_EPS_ADD;

    if (!args->bf16)
        return (float)(adds ? norm + args->eps : fmax(norm, args->eps));
    float rounded = prx_bf16_round((float)norm);
    return adds ? prx_bf16_round((float)(rounded + args->eps))
                : fmaxf(rounded, prx_bf16_round((float)args->eps));
}

/* x = u / |u|, the momentum moved on. */
static int begin(const struct job *job, const struct prx_muon_slot *slot)
{
    const struct prx_muon_args *args = job->args;
    const struct prx_muon_rates rates = {
        .grad_scale = (float)args->grad_scale,
        .keep = (float)args->momentum,
        .weight = (float)(1.0 - args->momentum),
        .nesterov = args->nesterov,
    };
    int64_t count = job->O * job->I, n_runs = prx_cpu_n_runs(count);
    int n_team = prx_cpu_team(job->be, n_runs);
    float *scratch = NULL;
    double sum = 0.0;

    PRX_TRY(prx_cpu_scratch(job->be, 2 * n_runs, &scratch)); /* a float64 a run */
    double *sums = (double *)scratch;
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < n_runs; r++)
        sums[r] = begin_run(job, slot, &rates, r * PRX_CPU_RUN,
                            prx_cpu_run(count - r * PRX_CPU_RUN));
    for (int64_t r = 0; r < n_runs; r++)
        sum += sums[r];
    float divisor = divisor_of(job, sqrt(sum));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        job->kernels->divide(job->x + i, job->x + i, divisor, job->rounding,
                             prx_cpu_run(count - i));
    return 0;
}

/* p = keep p - rate x */
static void apply(const struct job *job, const struct prx_tensor *p)
{
    const struct prx_muon_args *args = job->args;
    double O = (double)job->O, I = (double)job->I;
    double size = args->rms_scale ? 0.2 * sqrt(fmax(O, I)) : sqrt(fmax(1.0, O / I));
    float keep = (float)(1.0 - args->lr * args->weight_decay);
    float rate = (float)(args->lr * size);
    int64_t count = job->O * job->I;
    int n_team = prx_cpu_team(job->be, prx_cpu_n_runs(count));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN) {
        int64_t n = prx_cpu_run(count - i);
        float room[PRX_CPU_RUN];
        float *run = prx_run_open(job->kernels, p, i, n, room);
        job->kernels->axpby(run, -rate, job->x + i, keep, n);
        prx_run_close(job->kernels, p, i, n, run);
    }
}

static int step(struct job *job, const struct prx_muon_slot *slot)
{
    int64_t count = slot->p.dims[0] * slot->p.dims[1];
    float *memory = NULL;

    job->O = slot->p.dims[0];
    job->I = slot->p.dims[1];
    job->S = min(job->O, job->I);
    if (count == 0)
        return 0;
    PRX_TRY(prx_cpu_matrices(job->be, 2 * count + 3 * job->S * job->S, &memory));
    job->x = memory;
    job->bx = job->x + count;
    job->a = job->bx + count;
    job->b = job->a + job->S * job->S;
    job->caa = job->b + job->S * job->S;

    PRX_TRY(begin(job, slot));
    for (int i = 0; i < job->args->ns_steps; i++)
        PRX_TRY(iterate(job));
    apply(job, &slot->p);
    return 0;
}

int prx_cpu_muon(prx_be *be, const struct prx_muon_slot *slots, size_t n,
                 const struct prx_muon_args *args)
{
    bool adds = args->eps_mode == PRX_MUON_EPS_ADD;
    struct job job = {
        .be = be,
        .args = args,
        .kernels = PRX_SIMD_PICK(prx_elementwise_kernels),
        .rounding = !args->bf16 ? PRX_ROUND_NONE
                    : adds      ? PRX_ROUND_EACH
                                : PRX_ROUND_LAST,
    };
    PRX_TRY(prx_match_muon("muon", n, slots));

    for (size_t i = 0; i < n; i++)
        PRX_TRY(step(&job, &slots[i]));
    return 0;
}
