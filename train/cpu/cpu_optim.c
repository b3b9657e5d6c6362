/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ops over many tensors at once: sum of squares, AdamW, running averages.
 *
 * One team of threads walks all tensors; nobody waits between two of them.
 */
#include "train/cpu/run_internal.h"

#include <math.h>

int prx_cpu_sumsq(prx_be *be, prx_t *out, const struct prx_tensor *tensors, size_t n)
{
    const struct prx_elementwise_kernels *kernels =
        PRX_SIMD_PICK(prx_elementwise_kernels);
    int64_t n_all = 0;
    float *scratch = NULL;
    PRX_TRY(prx_match_scalar("sumsq", out));
    PRX_TRY(prx_match_list("sumsq", n, tensors));

    for (size_t i = 0; i < n; i++)
        n_all += prx_cpu_n_runs(prx_tensor_count(&tensors[i]));
    PRX_TRY(prx_cpu_scratch(be, 2 * n_all, &scratch)); /* a float64 a run */
    double *sums = (double *)scratch;
#pragma omp parallel num_threads(be->n_threads)
    for (size_t i = 0, i_first = 0; i < n; i++) {
        int64_t count = prx_tensor_count(&tensors[i]);
        int64_t n_runs = prx_cpu_n_runs(count);
        const float *x = tensors[i].data;
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < n_runs; r++)
            sums[(int64_t)i_first + r] = kernels->sumsq(
                x + r * PRX_CPU_RUN, prx_cpu_run(count - r * PRX_CPU_RUN));
        i_first += (size_t)n_runs;
    }
    double sum = *(const float *)out->data;
    for (int64_t r = 0; r < n_all; r++)
        sum += sums[r];
    *(float *)out->data = (float)sum;
    return 0;
}

static void adamw_run(const struct prx_elementwise_kernels *kernels,
                      const struct prx_adamw_slot *slot, int64_t at, int64_t n,
                      const struct prx_adamw_rates *rates)
{
    float room_p[PRX_CPU_RUN], room_m[PRX_CPU_RUN], room_v[PRX_CPU_RUN];
    float *p = prx_run_open(kernels, &slot->p, at, n, room_p);
    float *m = prx_run_open(kernels, &slot->m, at, n, room_m);
    float *v = prx_run_open(kernels, &slot->v, at, n, room_v);

    kernels->adamw(p, (const float *)slot->g.data + at, m, v, n, rates);
    prx_run_close(kernels, &slot->p, at, n, p);
    prx_run_close(kernels, &slot->m, at, n, m);
    prx_run_close(kernels, &slot->v, at, n, v);
}

int prx_cpu_adamw(prx_be *be, const struct prx_adamw_slot *slots, size_t n,
                  const struct prx_adamw_args *args)
{
    const struct prx_elementwise_kernels *kernels =
        PRX_SIMD_PICK(prx_elementwise_kernels);
    double k = (double)args->step;
    struct prx_adamw_rates rates = {
        .grad_scale = (float)args->grad_scale,
        .keep = (float)(1.0 - args->lr * args->weight_decay),
        .beta1 = (float)args->beta1,
        .one_less_beta1 = (float)(1.0 - args->beta1),
        .beta2 = (float)args->beta2,
        .one_less_beta2 = (float)(1.0 - args->beta2),
        .rate = (float)(args->lr / (1.0 - pow(args->beta1, k))),
        .inverse_root = (float)(1.0 / sqrt(1.0 - pow(args->beta2, k))),
        .eps = (float)args->eps,
    };
    PRX_TRY(prx_match_adamw("adamw", n, slots));

#pragma omp parallel num_threads(be->n_threads)
    for (size_t i = 0; i < n; i++) {
        const struct prx_adamw_slot *slot = &slots[i];
        int64_t count = prx_tensor_count(&slot->p);
        int64_t n_runs = prx_cpu_n_runs(count);
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < n_runs; r++)
            adamw_run(kernels, slot, r * PRX_CPU_RUN,
                      prx_cpu_run(count - r * PRX_CPU_RUN), &rates);
    }
    return 0;
}

static void lerp_run(const struct prx_elementwise_kernels *kernels,
                     const struct prx_tensor *y, const struct prx_tensor *x, int64_t at,
                     int64_t n, double weight)
{
    float room_y[PRX_CPU_RUN], room_x[PRX_CPU_RUN];
    float *run = prx_run_open(kernels, y, at, n, room_y);

    kernels->lerp(run, prx_run_open(kernels, x, at, n, room_x), (float)(1.0 - weight),
                  (float)weight, n);
    prx_run_close(kernels, y, at, n, run);
}

int prx_cpu_lerp(prx_be *be, const struct prx_tensor *ys, const struct prx_tensor *xs,
                 size_t n, double weight)
{
    const struct prx_elementwise_kernels *kernels =
        PRX_SIMD_PICK(prx_elementwise_kernels);
    PRX_TRY(prx_match_pairs("lerp", n, ys, xs));

#pragma omp parallel num_threads(be->n_threads)
    for (size_t i = 0; i < n; i++) {
        int64_t count = prx_tensor_count(&ys[i]);
        int64_t n_runs = prx_cpu_n_runs(count);
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < n_runs; r++)
            lerp_run(kernels, &ys[i], &xs[i], r * PRX_CPU_RUN,
                     prx_cpu_run(count - r * PRX_CPU_RUN), weight);
    }
    return 0;
}
