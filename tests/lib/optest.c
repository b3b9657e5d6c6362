/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/optest.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdata/rng.h"
#include "libdata/simd.h"
#include "tests/lib/near.h"
#include "train/bf16.h"

/* Not cmocka's failure: other programs link this folder without it. */
static void failed(const char *fmt, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

static void failed(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("FAIL ");
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    fflush(NULL);
    exit(1);
}

void optest_must(int rc, const char *what)
{
    if (rc < 0)
        failed("%s: %s", what, prx_err_message());
}

void optest_open(struct optest *test)
{
    *test = (struct optest){0};
    optest_must(prx_backend_open("ref", 0, &test->be[0]), "ref");
    for (int i = 1; i < OPTEST_BACKENDS; i++)
        optest_must(prx_backend_open("cpu", i, &test->be[i]), "cpu");
}

void optest_close(struct optest *test)
{
    for (uint64_t k = 0; k < test->n_operands; k++)
        for (int i = 0; i < OPTEST_BACKENDS; i++)
            prx_tensor_free(test->be[i], &test->operands[k].t[i]);
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        prx_backend_close(test->be[i]);
}

static struct operand *new_operand(struct optest *test, enum prx_dtype dtype,
                                   const int64_t *dims)
{
    if (test->n_operands == OPTEST_OPERANDS_MAX)
        failed("more than %d operands", OPTEST_OPERANDS_MAX);
    struct operand *operand = &test->operands[test->n_operands++];
    int n_dims = 0;
    while (n_dims < 4 && dims[n_dims] >= 0)
        n_dims++;
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        optest_must(prx_tensor_alloc(test->be[i], dtype, n_dims, dims, &operand->t[i]),
                    "alloc");
    return operand;
}

/* The same bytes on the other backends as on ref. */
static void share(struct operand *operand)
{
    for (int i = 1; i < OPTEST_BACKENDS; i++)
        if (operand->t[0].data)
            memcpy(operand->t[i].data, operand->t[0].data,
                   prx_tensor_bytes(&operand->t[0]));
}

static float get(const struct prx_tensor *tensor, int64_t i)
{
    if (tensor->dtype == PRX_BF16)
        return prx_bf16_to_f32(((const prx_bf16 *)tensor->data)[i]);
    return ((const float *)tensor->data)[i];
}

static void set(const struct prx_tensor *tensor, int64_t i, float value)
{
    if (tensor->dtype == PRX_BF16)
        ((prx_bf16 *)tensor->data)[i] = prx_bf16_from_f32(value);
    else
        ((float *)tensor->data)[i] = value;
}

struct operand *optest_narrow(struct optest *test, int64_t d0, int64_t d1, int64_t d2,
                              int64_t d3)
{
    struct operand *operand =
        new_operand(test, PRX_BF16, (const int64_t[]){d0, d1, d2, d3});
    struct prx_rng rng;
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, test->n_operands);
    for (int64_t i = 0; i < prx_tensor_count(&operand->t[0]); i++) {
        float value;
        prx_rng_normal(&rng, &value, 1);
        set(&operand->t[0], i, value);
    }
    share(operand);
    return operand;
}

struct operand *optest_operand(struct optest *test, int64_t d0, int64_t d1, int64_t d2,
                               int64_t d3)
{
    struct operand *operand =
        new_operand(test, PRX_F32, (const int64_t[]){d0, d1, d2, d3});
    struct prx_rng rng;
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, test->n_operands);
    prx_rng_normal(&rng, operand->t[0].data, (size_t)prx_tensor_count(&operand->t[0]));
    share(operand);
    return operand;
}

struct operand *optest_mask(struct optest *test, int64_t d0, int64_t d1)
{
    struct operand *operand =
        new_operand(test, PRX_I32, (const int64_t[]){d0, d1, -1, -1});
    struct prx_rng rng;
    int32_t *mask = operand->t[0].data;
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, test->n_operands);
    for (int64_t i = 0; i < d0 * d1; i++)
        mask[i] = prx_rng_u32(&rng) & 1;
    share(operand);
    return operand;
}

void optest_scale(struct operand *operand, float factor, float shift)
{
    const struct prx_tensor *x = &operand->t[0];
    for (int64_t i = 0; i < prx_tensor_count(x); i++)
        set(x, i, factor * get(x, i) + shift);
    share(operand);
}

void optest_fill(struct operand *operand, float value)
{
    const struct prx_tensor *x = &operand->t[0];
    for (int64_t i = 0; i < prx_tensor_count(x); i++)
        set(x, i, value);
    share(operand);
}

void optest_check(const struct optest *test, const char *what,
                  const struct operand *operand, int64_t n_terms)
{
    optest_check_sum(test, what, operand, n_terms, 0.0);
}

static float *values_of(const struct prx_tensor *tensor)
{
    int64_t count = prx_tensor_count(tensor);
    float *values = malloc((size_t)(count + 1) * sizeof(*values));
    if (!values)
        failed("out of memory");
    for (int64_t i = 0; i < count; i++)
        values[i] = get(tensor, i);
    return values;
}

/* near_check() of factor 2^-7 per number: the largest step between two of bf16. */
#define BF16_TERMS (INT64_C(1) << 26)

void optest_check_sum(const struct optest *test, const char *what,
                      const struct operand *operand, int64_t n_terms, double size)
{
    bool is_narrow = operand->t[0].dtype == PRX_BF16;
    struct near_terms terms = {n_terms + (is_narrow ? BF16_TERMS : 0), size};
    float *want = values_of(&operand->t[0]);
    for (int i = 1; i < OPTEST_BACKENDS; i++) {
        char name[128];
        snprintf(name, sizeof(name), "%s on %s, %d threads", what, test->be[i]->name,
                 test->be[i]->n_threads);
        float *got = values_of(&operand->t[i]);
        if (!near_check(name, got, want, prx_tensor_count(&operand->t[0]), terms))
            failed("%s", name);
        free(got);
    }
    free(want);
}

void optest_check_exact(const char *what, const struct operand *operand)
{
    for (int i = 2; i < OPTEST_BACKENDS; i++)
        if (operand->t[1].data && memcmp(operand->t[i].data, operand->t[1].data,
                                         prx_tensor_bytes(&operand->t[1])) != 0)
            failed("%s: %d threads give other bits than one", what, i);
}

/* sum(y cotangent) with element @at of x moved by @move, and the rounding in it. */
static double moved(const struct gradient_test *g, float *at, float x, double move,
                    double *rounding)
{
    const float *y = g->y->t[0].data, *c = g->cotangent->t[0].data;
    double sum = 0.0, sum_sq = 0.0;
    *at = (float)(x + move);
    g->forward(g->ctx);
    for (int64_t i = 0; i < prx_tensor_count(&g->y->t[0]); i++) {
        double term = (double)y[i] * c[i];
        sum += term;
        sum_sq += term * term;
    }
    *at = x;
    *rounding = FLT_EPSILON * sqrt(sum_sq);
    return sum;
}

/* f' = (45 d1 - 9 d2 + d3) / 60h, dk = f(x + kh) - f(x - kh), up to O(h^6). */
static double slope(const struct gradient_test *g, float *at, double h,
                    double *rounding)
{
    const double weights[] = {45.0, -9.0, 1.0};
    float x = *at;
    double sum = 0.0, all = 0.0;
    for (int k = 1; k <= 3; k++) {
        double up, down;
        sum += weights[k - 1] *
               (moved(g, at, x, k * h, &up) - moved(g, at, x, -k * h, &down));
        all += fabs(weights[k - 1]) * (up + down);
    }
    *rounding = all / (60.0 * h);
    return sum / (60.0 * h);
}

void optest_check_gradient(const struct gradient_test *g, const char *what,
                           const struct operand *operand, const struct operand *grad)
{
    /* Powers of two, so that x + kh is exact for x of ordinary size. */
    const double step = 1.0 / 16.0;
    int64_t n = prx_tensor_count(&operand->t[0]);
    int64_t stride = n > 48 ? n / 48 + 1 : 1;
    float *x = operand->t[0].data;
    const float *dx = grad->t[0].data;

    for (int64_t i = 0; i < n; i += stride) {
        double rounding, rounding_wide;
        double wide = slope(g, &x[i], 2 * step, &rounding_wide);
        double want = slope(g, &x[i], step, &rounding);
        /* Halving h leaves 1/64 of what the formula neglects; all of it is allowed. */
        double allowed = fabs(wide - want) + 8.0 * rounding +
                         16.0 * FLT_EPSILON * (fabs(want) + fabs((double)dx[i]));
        if (!(fabs(dx[i] - want) <= allowed) ||
            !(fabs(wide - want) < 0.05 + 0.05 * fabs(want)))
            failed("%s: gradient %lld is %.8g, difference %.8g (allowed %.3g)", what,
                   (long long)i, (double)dx[i], want, allowed);
    }
    g->forward(g->ctx);
}

/* This program once more, at instruction-set level @level. */
static int run_again(char **argv, const char *level)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("PRX_SIMD", level, 1);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int optest_main(char **argv, int (*run)(void))
{
    const char *const lower[] = {"v1", "v3"};
    int n_failed = 0;

    if (!getenv("PRX_SIMD"))
        for (int i = 0; i < 2; i++)
            if (prx_simd_level() > 2 * i + 1)
                n_failed += run_again(argv, lower[i]) != 0;
    printf("# instruction-set level %d\n", prx_simd_level());
    return run() + n_failed != 0;
}
