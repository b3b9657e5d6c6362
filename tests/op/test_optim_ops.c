/* SPDX-License-Identifier: Apache-2.0 */
/* Loss, and the ops over lists of tensors: sum of squares, AdamW, running averages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/lib/optest.h"

static void test_mse(void **state)
{
    static const int64_t shapes[][2] = {{0, 3}, {2, 0}, {1, 1}, {3, 33}, {4, 10007}};
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t B = shapes[s][0], n = shapes[s][1];
        struct optest t;
        optest_open(&t);
        struct operand *p = optest_operand(&t, B, n, -1, -1);
        struct operand *target = optest_operand(&t, B, n, -1, -1);
        struct operand *each = optest_operand(&t, B, -1, -1, -1);
        struct operand *loss = optest_operand(&t, 1, -1, -1, -1);
        struct operand *dp = optest_operand(&t, B, n, -1, -1);
        RUN_ALL(t, mse_fwd, OP(loss), OP(each), OP(p), OP(target));
        optest_check(&t, "mse_fwd loss", loss, 1); /* float64 sums: one rounding */
        optest_check(&t, "mse_fwd per_sample", each, 1);
        RUN_ALL(t, mse_fwd, OP(loss), NULL, OP(p), OP(target));
        for (int add = 0; add < 2; add++) {
            RUN_ALL(t, mse_bwd, OP(dp), add, OP(p), OP(target), 0.5F);
            optest_check(&t, "mse_bwd", dp, 2);
        }
        optest_close(&t);
    }
}

#define N_TENSORS 5
static const int64_t counts[N_TENSORS] = {1, 0, 33, 8193, 20011};

static void list(const struct operand *const *operands, int i, struct prx_tensor *out)
{
    for (int k = 0; k < N_TENSORS; k++)
        out[k] = operands[k]->t[i];
}

static void test_sumsq(void **state)
{
    struct optest t;
    const struct operand *xs[N_TENSORS];
    (void)state;
    optest_open(&t);
    for (int k = 0; k < N_TENSORS; k++)
        xs[k] = optest_operand(&t, counts[k], -1, -1, -1);
    struct operand *out = optest_operand(&t, 1, -1, -1, -1);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        struct prx_tensor tensors[N_TENSORS];
        list(xs, i, tensors);
        RUN(t, i, sumsq, OP(out), tensors, N_TENSORS);
    }
    optest_check(&t, "sumsq", out, 1);
    optest_check_exact("sumsq", out);
    optest_close(&t);
}

static void copy(const struct prx_tensor *to, const struct prx_tensor *from)
{
    if (from->data)
        memcpy(to->data, from->data, prx_tensor_bytes(from));
}

typedef struct operand *(*operand_fn)(struct optest *test, int64_t d0, int64_t d1,
                                      int64_t d2, int64_t d3);

/* Parameters and moments of one dtype, or of two. */
static void check_adamw(operand_fn param, operand_fn moment)
{
    struct optest t;
    struct operand *p[N_TENSORS], *g[N_TENSORS], *m[N_TENSORS], *v[N_TENSORS];
    optest_open(&t);
    for (int k = 0; k < N_TENSORS; k++) {
        p[k] = param(&t, counts[k], -1, -1, -1);
        g[k] = optest_operand(&t, counts[k], -1, -1, -1);
        m[k] = moment(&t, counts[k], -1, -1, -1);
        v[k] = moment(&t, counts[k], -1, -1, -1);
        optest_fill(m[k], 0.0F);
        optest_fill(v[k], 0.0F);
    }
    optest_fill(g[2], 0.0F); /* 0/0 leaves the parameter alone */
    for (int step = 1; step <= 3; step++) {
        struct prx_adamw_args args = {.lr = 1e-3,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = step == 1 ? 0.0 : 1e-8,
                                      .weight_decay = 0.01,
                                      .step = step,
                                      .grad_scale = 0.5};
        for (int i = 0; i < OPTEST_BACKENDS; i++) {
            struct prx_adamw_slot slots[N_TENSORS];
            for (int k = 0; k < N_TENSORS; k++)
                slots[k] = (struct prx_adamw_slot){p[k]->t[i], g[k]->t[i], m[k]->t[i],
                                                   v[k]->t[i]};
            RUN(t, i, adamw, slots, N_TENSORS, &args);
        }
        for (int k = 0; k < N_TENSORS; k++) {
            optest_check(&t, "adamw p", p[k], 4);
            optest_check(&t, "adamw m", m[k], 4);
            optest_check(&t, "adamw v", v[k], 4);
            optest_check_exact("adamw p", p[k]);
        }
        /* Go on from the same numbers: what is rounded may round apart. */
        for (int k = 0; k < N_TENSORS; k++)
            for (int i = 1; i < OPTEST_BACKENDS; i++) {
                copy(&p[k]->t[i], &p[k]->t[0]);
                copy(&m[k]->t[i], &m[k]->t[0]);
                copy(&v[k]->t[i], &v[k]->t[0]);
            }
    }
    optest_close(&t);
}

static void test_adamw(void **state)
{
    (void)state;
    check_adamw(optest_operand, optest_operand);
    check_adamw(optest_narrow, optest_narrow);
    check_adamw(optest_narrow, optest_operand);
}

static void check_lerp(operand_fn y_of, operand_fn x_of)
{
    struct optest t;
    const struct operand *ys[N_TENSORS], *xs[N_TENSORS];
    optest_open(&t);
    for (int k = 0; k < N_TENSORS; k++) {
        ys[k] = y_of(&t, counts[k], -1, -1, -1);
        xs[k] = x_of(&t, counts[k], -1, -1, -1);
    }
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        struct prx_tensor y[N_TENSORS], x[N_TENSORS];
        list(ys, i, y);
        list(xs, i, x);
        RUN(t, i, lerp, y, x, N_TENSORS, 0.001);
    }
    for (int k = 0; k < N_TENSORS; k++)
        optest_check(&t, "lerp", ys[k], 2);
    optest_close(&t);
}

static void test_lerp(void **state)
{
    (void)state;
    check_lerp(optest_operand, optest_operand);
    check_lerp(optest_operand, optest_narrow);
    check_lerp(optest_narrow, optest_narrow);
}

struct context {
    struct optest t;
    struct operand *loss, *p, *target;
};

static void forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, mse_fwd, OP(c->loss), NULL, OP(c->p), OP(c->target));
}

static void test_gradient(void **state)
{
    struct context c;
    (void)state;
    optest_open(&c.t);
    c.p = optest_operand(&c.t, 2, 5, -1, -1);
    c.target = optest_operand(&c.t, 2, 5, -1, -1);
    c.loss = optest_operand(&c.t, 1, -1, -1, -1);
    struct operand *dp = optest_operand(&c.t, 2, 5, -1, -1);
    struct operand *weight = optest_operand(&c.t, 1, -1, -1, -1);
    optest_fill(weight, 0.7F);
    RUN(c.t, 0, mse_bwd, OP(dp), false, OP(c.p), OP(c.target), 0.7F);
    struct gradient_test g = {c.loss, weight, forward, &c};
    optest_check_gradient(&g, "mse p", c.p, dp);
    optest_close(&c.t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mse),
        cmocka_unit_test(test_sumsq),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_lerp),
        cmocka_unit_test(test_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
