/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times of the cpu backend's ops at the sizes of three PRX models, against what the
 * machine can do: its rate at a large matrix product, and its copying.
 *
 * bench_ops [SIZE] [THREADS]: SIZE is nano, mid, small2 or all.  A line an op: best
 * time, GFLOP/s and share of the product's rate, or GB/s and share of copying, and
 * the op's part of a training step's sum.  With one thread it is processor time
 * that is measured of the ops, so that other work on the machine disturbs less.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/backend.h"
#include "train/ops.h"

struct size {
    const char *name;
    int64_t D, depth, NH, F, B, N, L, text_width;
};

static const struct size sizes[] = {
    {"nano", 192, 6, 6, 672, 16, 64, 64, 256},
    {"mid", 384, 8, 12, 1344, 8, 256, 128, 256},
    {"small2", 1792, 2, 28, 6272, 4, 256, 256, 2304},
};

/* What a run shares: the backend, the machine's rates, and the sum of a step. */
struct bench {
    struct prx_backend *be;
    double flops, bytes; /* a second */
    double step_s;
};

static double now_s(const struct bench *bench)
{
    struct timespec t;
    clock_gettime(bench->be->n_threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID,
                  &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_ops: error: %s\n", prx_err_message());
    exit(1);
}

static struct prx_tensor tensor(struct bench *bench, int64_t d0, int64_t d1, int64_t d2,
                                int64_t d3)
{
    int64_t dims[] = {d0, d1, d2, d3};
    struct prx_tensor out;
    int n_dims = 0;
    while (n_dims < 4 && dims[n_dims] >= 0)
        n_dims++;
    must(prx_tensor_alloc(bench->be, PRX_F32, n_dims, dims, &out));
    float *x = out.data;
    uint32_t seed = 1;
    for (int64_t i = 0; i < prx_tensor_count(&out); i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (float)(int32_t)seed * 0x1p-31F;
    }
    return out;
}

/* Best of several runs, at least 0.2 s of them. */
#define TIME(best_s, call)                                          \
 do {                                                               \
  double begin_s_ = now_s(bench);                                   \
  (best_s) = 1e30;                                                  \
  for (int n_ = 0; n_ < 3 || now_s(bench) - begin_s_ < 0.2; n_++) { \
   double at_s_ = now_s(bench);                                     \
   must(call);                                                      \
   double took_s_ = now_s(bench) - at_s_;                           \
   if (took_s_ < (best_s))                                          \
    (best_s) = took_s_;                                             \
  }                                                                 \
 } while (0)

static void report(struct bench *bench, const char *what, double best_s, double flop,
                   double bytes, int64_t n_a_step)
{
    bench->step_s += best_s * (double)n_a_step;
    printf("  %-26s %9.1f us", what, best_s * 1e6);
    if (flop > 0)
        printf("  %6.1f GFLOP/s %4.0f %%", flop / best_s / 1e9,
               100.0 * flop / best_s / bench->flops);
    else
        printf("  %6.1f GB/s    %4.0f %%", bytes / best_s / 1e9,
               100.0 * bytes / best_s / bench->bytes);
    printf("  x %3lld = %7.2f ms\n", (long long)n_a_step,
           best_s * (double)n_a_step * 1e3);
}

static void machine_rates(struct bench *bench)
{
    struct prx_tensor big = tensor(bench, 16 << 20, -1, -1, -1);
    struct prx_tensor copy = tensor(bench, 16 << 20, -1, -1, -1);
    double best_s;
    must(prx_backend_peak(bench->be, 1.0, &bench->flops));
    TIME(best_s, bench->be->ops->axpby(bench->be, &copy, 1.0F, &big, 0.0F));
    bench->bytes = 2.0 * (double)prx_tensor_bytes(&big) / best_s;
    printf("machine: %d threads, product %.1f GFLOP/s, copy %.1f GB/s\n",
           bench->be->n_threads, bench->flops / 1e9, bench->bytes / 1e9);
    prx_tensor_free(bench->be, &big);
    prx_tensor_free(bench->be, &copy);
}

static void bench_linear(struct bench *bench, const char *what, int64_t R, int64_t I,
                         int64_t O, int64_t n_a_step)
{
    const struct prx_ops *ops = bench->be->ops;
    struct prx_tensor x = tensor(bench, R, I, -1, -1), w = tensor(bench, O, I, -1, -1);
    struct prx_tensor y = tensor(bench, R, O, -1, -1), dx = tensor(bench, R, I, -1, -1);
    struct prx_tensor dw = tensor(bench, O, I, -1, -1);
    double flop = 2.0 * (double)(R * I * O), best_s;
    char name[64];
    TIME(best_s, ops->linear_fwd(bench->be, &y, &x, &w, NULL));
    snprintf(name, sizeof(name), "%s fwd", what);
    report(bench, name, best_s, flop, 0, n_a_step);
    TIME(best_s, ops->linear_bwd(bench->be, &dx, false, NULL, NULL, &y, &x, &w));
    snprintf(name, sizeof(name), "%s dx", what);
    report(bench, name, best_s, flop, 0, n_a_step);
    TIME(best_s, ops->linear_bwd(bench->be, NULL, false, &dw, NULL, &y, &x, &w));
    snprintf(name, sizeof(name), "%s dw", what);
    report(bench, name, best_s, flop, 0, n_a_step);
    struct prx_tensor *all[] = {&x, &w, &y, &dx, &dw};
    for (int i = 0; i < 5; i++)
        prx_tensor_free(bench->be, all[i]);
}

static void bench_attention(struct bench *bench, const struct size *s)
{
    const struct prx_ops *ops = bench->be->ops;
    int64_t B = s->B, N = s->N, L = s->L, D = s->D;
    struct prx_tensor q = tensor(bench, B, N, D, -1), k = tensor(bench, B, N, D, -1);
    struct prx_tensor v = tensor(bench, B, N, 3 * D, -1),
                      kt = tensor(bench, B, L, D, -1);
    struct prx_tensor vt = tensor(bench, B, L, 2 * D, -1),
                      o = tensor(bench, B, N, D, -1);
    struct prx_tensor lse = tensor(bench, B, s->NH, N, -1);
    struct prx_tensor dq = tensor(bench, B, N, D, -1), dk = tensor(bench, B, N, D, -1);
    struct prx_tensor dv = tensor(bench, B, N, 3 * D, -1);
    struct prx_tensor dkt = tensor(bench, B, L, D, -1);
    struct prx_tensor dvt = tensor(bench, B, L, 2 * D, -1);
    double flop = 4.0 * (double)(B * N * (N + L) * D), best_s;
    TIME(best_s, ops->attention_fwd(bench->be, &o, &lse, &q, &k, &v, 2 * D, &kt, &vt, D,
                                    NULL, s->NH));
    report(bench, "attention_fwd", best_s, flop, 0, s->depth);
    TIME(best_s, ops->attention_bwd(bench->be, &dq, &dk, &dv, &dkt, &dvt, &o, &o, &lse,
                                    &q, &k, &v, 2 * D, &kt, &vt, D, NULL, s->NH));
    report(bench, "attention_bwd", best_s, 2.5 * flop, 0, s->depth);
    struct prx_tensor *all[] = {&q, &k, &v, &kt, &vt, &o,
                                &lse, &dq, &dk, &dv, &dkt, &dvt};
    for (int i = 0; i < 12; i++)
        prx_tensor_free(bench->be, all[i]);
}

static void bench_rows(struct bench *bench, const struct size *s)
{
    const struct prx_ops *ops = bench->be->ops;
    int64_t B = s->B, N = s->N, D = s->D, HD = D / s->NH;
    struct prx_tensor x = tensor(bench, B, N, D, -1), y = tensor(bench, B, N, D, -1);
    struct prx_tensor z = tensor(bench, B, N, D, -1);
    struct prx_tensor mean = tensor(bench, B * N, -1, -1, -1);
    struct prx_tensor rstd = tensor(bench, B * N, -1, -1, -1);
    struct prx_tensor mod = tensor(bench, B, 6 * D, -1, -1);
    struct prx_tensor dmod = tensor(bench, B, 6 * D, -1, -1);
    struct prx_tensor qkv = tensor(bench, B, N, 3 * D, -1);
    struct prx_tensor rrms = tensor(bench, B, N, s->NH, -1);
    struct prx_tensor scale = tensor(bench, HD, -1, -1, -1);
    struct prx_tensor dscale = tensor(bench, HD, -1, -1, -1);
    struct prx_tensor rope = tensor(bench, 1, N, 2, HD / 2);
    double row_bytes = (double)prx_tensor_bytes(&x), best_s;
    TIME(best_s,
         ops->ln_modulate_fwd(bench->be, &y, &mean, &rstd, &x, &mod, 0, 1, 1e-6F));
    report(bench, "ln_modulate_fwd", best_s, 0, 2 * row_bytes, 2 * s->depth);
    TIME(best_s, ops->ln_modulate_bwd(bench->be, &z, true, &dmod, &y, &x, &mean, &rstd,
                                      &mod, 0, 1));
    report(bench, "ln_modulate_bwd", best_s, 0, 4 * row_bytes, 2 * s->depth);
    TIME(best_s, ops->gate_residual_fwd(bench->be, &y, &x, &z, &mod, 2));
    report(bench, "gate_residual_fwd", best_s, 0, 3 * row_bytes, 2 * s->depth);
    TIME(best_s, ops->gate_residual_bwd(bench->be, &z, &dmod, &y, &x, &mod, 2));
    report(bench, "gate_residual_bwd", best_s, 0, 3 * row_bytes, 2 * s->depth);
    TIME(best_s,
         ops->head_norm_rope_fwd(bench->be, &y, &rrms, &qkv, D, &scale, &rope, 1e-6F));
    report(bench, "head_norm_rope_fwd", best_s, 0, 2 * row_bytes, 3 * s->depth);
    TIME(best_s, ops->head_norm_rope_bwd(bench->be, &qkv, &dscale, &y, &qkv, D, &rrms,
                                         &scale, &rope));
    report(bench, "head_norm_rope_bwd", best_s, 0, 3 * row_bytes, 3 * s->depth);
    struct prx_tensor *all[] = {&x, &y, &z, &mean, &rstd, &mod,
                                &dmod, &qkv, &rrms, &scale, &dscale, &rope};
    for (int i = 0; i < 12; i++)
        prx_tensor_free(bench->be, all[i]);
}

static void bench_mlp(struct bench *bench, const struct size *s)
{
    const struct prx_ops *ops = bench->be->ops;
    struct prx_tensor g = tensor(bench, s->B * s->N, s->F, -1, -1);
    struct prx_tensor u = tensor(bench, s->B * s->N, s->F, -1, -1);
    struct prx_tensor y = tensor(bench, s->B * s->N, s->F, -1, -1);
    struct prx_tensor dg = tensor(bench, s->B * s->N, s->F, -1, -1);
    struct prx_tensor du = tensor(bench, s->B * s->N, s->F, -1, -1);
    double bytes = (double)prx_tensor_bytes(&g), best_s;
    TIME(best_s, ops->gated_gelu_fwd(bench->be, &y, &g, &u));
    report(bench, "gated_gelu_fwd", best_s, 0, 3 * bytes, s->depth);
    TIME(best_s, ops->gated_gelu_bwd(bench->be, &dg, &du, &y, &g, &u));
    report(bench, "gated_gelu_bwd", best_s, 0, 5 * bytes, s->depth);
    struct prx_tensor *all[] = {&g, &u, &y, &dg, &du};
    for (int i = 0; i < 5; i++)
        prx_tensor_free(bench->be, all[i]);
}

static void bench_optim(struct bench *bench, const struct size *s)
{
    int64_t n = s->depth * s->D * (12 * s->D + 3 * s->F) + s->D * s->text_width;
    struct prx_adamw_slot slot = {
        tensor(bench, n, -1, -1, -1), tensor(bench, n, -1, -1, -1),
        tensor(bench, n, -1, -1, -1), tensor(bench, n, -1, -1, -1)};
    struct prx_adamw_args args = {1e-4, 0.9, 0.95, 1e-8, 0.0, 1000, 1.0};
    struct prx_tensor sum = tensor(bench, 1, -1, -1, -1);
    double bytes = (double)prx_tensor_bytes(&slot.p), best_s;
    must(prx_tensor_zero(bench->be, &slot.v));
    TIME(best_s, bench->be->ops->sumsq(bench->be, &sum, &slot.g, 1));
    report(bench, "sumsq", best_s, 0, bytes, 1);
    TIME(best_s, bench->be->ops->adamw(bench->be, &slot, 1, &args));
    report(bench, "adamw", best_s, 0, 7 * bytes, 1);
    TIME(best_s, prx_tensor_zero(bench->be, &slot.g));
    report(bench, "zero gradients", best_s, 0, bytes, 1);
    struct prx_tensor *all[] = {&slot.p, &slot.g, &slot.m, &slot.v, &sum};
    for (int i = 0; i < 5; i++)
        prx_tensor_free(bench->be, all[i]);
}

static void bench_size(struct bench *bench, const struct size *s)
{
    int64_t R = s->B * s->N, RT = s->B * s->L;
    printf("%s: hidden %lld, depth %lld, %lld x %lld tokens, %lld text tokens\n",
           s->name, (long long)s->D, (long long)s->depth, (long long)s->B,
           (long long)s->N, (long long)s->L);
    bench->step_s = 0;
    bench_linear(bench, "linear qkv", R, s->D, 3 * s->D, s->depth);
    bench_linear(bench, "linear text kv", RT, s->D, 2 * s->D, s->depth);
    bench_linear(bench, "linear out", R, s->D, s->D, s->depth);
    bench_linear(bench, "linear gate, up", R, s->D, s->F, 2 * s->depth);
    bench_linear(bench, "linear down", R, s->F, s->D, s->depth);
    bench_linear(bench, "linear modulation", s->B, s->D, 6 * s->D, s->depth);
    bench_linear(bench, "linear text in", RT, s->text_width, s->D, 1);
    bench_attention(bench, s);
    bench_rows(bench, s);
    bench_mlp(bench, s);
    bench_optim(bench, s);
    printf("  sum of a step: %.1f ms\n", bench->step_s * 1e3);
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "all";
    struct bench bench = {0};
    must(prx_backend_open("cpu", argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0,
                          &bench.be));
    machine_rates(&bench);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (strcmp(only, "all") == 0 || strcmp(only, sizes[i].name) == 0)
            bench_size(&bench, &sizes[i]);
    prx_backend_close(bench.be);
    return 0;
}
