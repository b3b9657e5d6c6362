/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that treat each element alone, shared out among threads. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/elementwise_internal.h"

#include <string.h>

static const struct prx_elementwise_kernels *kernels(void)
{
    return PRX_SIMD_PICK(prx_elementwise_kernels);
}

static float *at(prx_ct *tensor, int64_t i)
{
    return (float *)tensor->data + i;
}

int prx_cpu_silu_fwd(prx_be *be, prx_t *y, prx_ct *x)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "silu_fwd", y, x, NULL));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->silu_fwd(at(y, i), at(x, i), prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_silu_bwd(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *x)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "silu_bwd", dx, dy, x));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->silu_bwd(at(dx, i), add, at(dy, i), at(x, i),
                            prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_add(prx_be *be, prx_t *y, prx_ct *a, prx_ct *b)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "add", y, a, b));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->add(at(y, i), at(a, i), at(b, i), prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_axpby(prx_be *be, prx_t *y, float alpha, prx_ct *x, float beta)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "axpby", y, x, NULL));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->axpby(at(y, i), alpha, at(x, i), beta, prx_cpu_run(count - i));
    return 0;
}

static void cast_run(prx_t *y, prx_ct *x, int64_t i, int64_t n)
{
    if (y->dtype == x->dtype)
        memcpy((char *)y->data + (size_t)i * prx_dtype_bytes(y->dtype),
               (const char *)x->data + (size_t)i * prx_dtype_bytes(x->dtype),
               (size_t)n * prx_dtype_bytes(y->dtype));
    else if (y->dtype == PRX_BF16)
        kernels()->narrow((prx_bf16 *)y->data + i, at(x, i), n);
    else
        kernels()->widen(at(y, i), (const prx_bf16 *)x->data + i, n);
}

int prx_cpu_cast(prx_be *be, prx_t *y, prx_ct *x)
{
    int64_t count;
    PRX_TRY(prx_match_cast(&count, "cast", y, x));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        cast_run(y, x, i, prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_gated_gelu_fwd(prx_be *be, prx_t *y, prx_ct *g, prx_ct *u)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "gated_gelu_fwd", y, g, u));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->gated_gelu_fwd(at(y, i), at(g, i), at(u, i), prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_gated_gelu_bwd(prx_be *be, prx_t *dg, prx_t *du, prx_ct *dy, prx_ct *g,
                           prx_ct *u)
{
    int64_t count;
    PRX_TRY(prx_match_elements(&count, "gated_gelu_bwd", g, u, dy));
    PRX_TRY(prx_match_elements(&count, "gated_gelu_bwd", g, dg, du));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(count));
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < count; i += PRX_CPU_RUN)
        kernels()->gated_gelu_bwd(at(dg, i), at(du, i), at(dy, i), at(g, i), at(u, i),
                                  prx_cpu_run(count - i));
    return 0;
}

int prx_cpu_flow_mix(prx_be *be, prx_t *xt, prx_t *v, prx_ct *x0, prx_ct *noise,
                     prx_ct *t)
{
    struct prx_sample_dims d;
    bool wants_v = !prx_tensor_is_absent(v);
    PRX_TRY(prx_match_samples(&d, "flow_mix", xt, x0, v, t));
    PRX_TRY(prx_match_samples(&d, "flow_mix", xt, noise, v, t));

    int n_team = prx_cpu_team(be, d.B);
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t b = 0; b < d.B; b++)
        kernels()->flow_mix(at(xt, b * d.n_each), wants_v ? at(v, b * d.n_each) : NULL,
                            at(x0, b * d.n_each), at(noise, b * d.n_each), *at(t, b),
                            d.n_each);
    return 0;
}

static float clamped(prx_ct *t, int64_t b, float t_min)
{
    return *at(t, b) > t_min ? *at(t, b) : t_min;
}

int prx_cpu_x0_velocity_fwd(prx_be *be, prx_t *v, prx_ct *xt, prx_ct *x0, prx_ct *t,
                            float t_min)
{
    struct prx_sample_dims d;
    PRX_TRY(prx_match_samples(&d, "x0_velocity_fwd", xt, x0, v, t));

    int n_team = prx_cpu_team(be, d.B);
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t b = 0; b < d.B; b++) {
        float divisor = clamped(t, b, t_min);
        const float *from = at(xt, b * d.n_each), *to = at(x0, b * d.n_each);
        float *out = at(v, b * d.n_each);
        for (int64_t i = 0; i < d.n_each; i++)
            out[i] = (from[i] - to[i]) / divisor;
    }
    return 0;
}

int prx_cpu_x0_velocity_bwd(prx_be *be, prx_t *dx0, bool add, prx_ct *dv, prx_ct *t,
                            float t_min)
{
    struct prx_sample_dims d;
    PRX_TRY(prx_match_samples(&d, "x0_velocity_bwd", dv, dx0, NULL, t));

    int n_team = prx_cpu_team(be, d.B);
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t b = 0; b < d.B; b++)
        kernels()->axpby(at(dx0, b * d.n_each), -1.0F / clamped(t, b, t_min),
                         at(dv, b * d.n_each), add ? 1.0F : 0.0F, d.n_each);
    return 0;
}
