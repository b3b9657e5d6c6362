/* SPDX-License-Identifier: Apache-2.0 */
/* Modulated layer norm, gated residual, norm and rotation of heads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/lib/optest.h"

#define EPS 1e-6F

static const struct {
    int64_t B, N, D;
} shapes[] = {
    {0, 3, 4},
    {2, 0, 4},
    {1, 1, 1},
    {2, 3, 31},
    {1, 33, 32},
    {3, 7, 33},
    {2, 65, 192},
    {1, 131, 17},
    {2, 64, 384},
};

static void test_ln_modulate(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t B = shapes[s].B, N = shapes[s].N, D = shapes[s].D;
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, B, N, D, -1);
        struct operand *y = optest_operand(&t, B, N, D, -1);
        struct operand *mean = optest_operand(&t, B * N, -1, -1, -1);
        struct operand *rstd = optest_operand(&t, B * N, -1, -1, -1);
        struct operand *mod = optest_operand(&t, B, 6 * D, -1, -1);
        struct operand *dmod = optest_operand(&t, B, 6 * D, -1, -1);
        struct operand *dx = optest_operand(&t, B, N, D, -1);
        optest_scale(x, 2.0F, 3.0F);
        RUN_ALL(t, ln_modulate_fwd, OP(y), OP(mean), OP(rstd), OP(x), OP(mod), 3, 4,
                EPS);
        if (D > 1) { /* a row of one has no variance: rstd magnifies rounding */
            optest_check_sum(&t, "ln_modulate_fwd y", y, D, 3.0);
            optest_check(&t, "ln_modulate_fwd rstd", rstd, D);
        }
        optest_check_sum(&t, "ln_modulate_fwd mean", mean, D, 3.0);
        optest_check_exact("ln_modulate_fwd", y);
        for (int i = 1; i < OPTEST_BACKENDS; i++) {
            /* One truth for bwd: each backend's own statistics differ by rounding. */
            for (int64_t r = 0; r < B * N; r++) {
                ((float *)mean->t[i].data)[r] = ((float *)mean->t[0].data)[r];
                ((float *)rstd->t[i].data)[r] = ((float *)rstd->t[0].data)[r];
            }
        }
        for (int add = 0; add < 2; add++) {
            RUN_ALL(t, ln_modulate_bwd, OP(dx), add, OP(dmod), OP(y), OP(x), OP(mean),
                    OP(rstd), OP(mod), 3, 4);
            if (D > 1)
                optest_check_sum(&t, "ln_modulate_bwd dx", dx, D, 3.0);
            optest_check_sum(&t, "ln_modulate_bwd dmod", dmod, N + D, 3.0);
            optest_check_exact("ln_modulate_bwd dx", dx);
            optest_check_exact("ln_modulate_bwd dmod", dmod);
        }
        optest_close(&t);
    }
}

static void test_gate_residual(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t B = shapes[s].B, N = shapes[s].N, D = shapes[s].D;
        struct optest t;
        optest_open(&t);
        struct operand *h = optest_operand(&t, B, N, D, -1);
        struct operand *x = optest_operand(&t, B, N, D, -1);
        struct operand *y = optest_operand(&t, B, N, D, -1);
        struct operand *dx = optest_operand(&t, B, N, D, -1);
        struct operand *mod = optest_operand(&t, B, 3 * D, -1, -1);
        struct operand *dmod = optest_operand(&t, B, 3 * D, -1, -1);
        RUN_ALL(t, gate_residual_fwd, OP(y), OP(h), OP(x), OP(mod), 2);
        optest_check_sum(&t, "gate_residual_fwd", y, 2, 1.0);
        RUN_ALL(t, gate_residual_fwd, OP(h), OP(h), OP(x), OP(mod), 2);
        optest_check_sum(&t, "gate_residual_fwd in place", h, 2, 1.0);
        RUN_ALL(t, gate_residual_bwd, OP(dx), OP(dmod), OP(y), OP(x), OP(mod), 2);
        optest_check(&t, "gate_residual_bwd dx", dx, 1);
        optest_check_sum(&t, "gate_residual_bwd dmod", dmod, N, 1.0);
        optest_check_exact("gate_residual_bwd dmod", dmod);
        optest_close(&t);
    }
}

static const struct {
    int64_t B, N, NH, HD;
    int64_t rope; /* 0: none, 1: shared, else one a sample */
} heads[] = {
    {0, 3, 2, 4, 1},
    {2, 0, 2, 4, 1},
    {1, 1, 1, 2, 1},
    {2, 5, 3, 32, 1},
    {2, 7, 2, 64, 2},
    {3, 67, 2, 72, 3},
    {1, 130, 1, 6, 1},
    {2, 3, 5, 33, 0},
    {1, 2, 2, 1, 0},
};

static void test_head_norm_rope(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(heads) / sizeof(heads[0]); s++) {
        int64_t B = heads[s].B, N = heads[s].N, NH = heads[s].NH, HD = heads[s].HD;
        int64_t D = NH * HD, G = heads[s].rope > 1 ? B : 1;
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, B, N, 2 * D + 3, -1);
        struct operand *y = optest_operand(&t, B, N, D, -1);
        struct operand *rrms = optest_operand(&t, B, N, NH, -1);
        struct operand *scale = optest_operand(&t, HD, -1, -1, -1);
        struct operand *dscale = optest_operand(&t, HD, -1, -1, -1);
        struct operand *dx = optest_operand(&t, B, N, 2 * D + 3, -1);
        struct operand *rope = optest_operand(&t, G, N, 2, HD / 2);
        bool turned = heads[s].rope > 0;
        RUN_ALL(t, head_norm_rope_fwd, OP(y), OP(rrms), OP(x), D + 1, OP(scale),
                turned ? OP(rope) : NULL, EPS);
        optest_check_sum(&t, "head_norm_rope_fwd y", y, HD, 1.0);
        optest_check(&t, "head_norm_rope_fwd rrms", rrms, HD);
        optest_check_exact("head_norm_rope_fwd", y);
        for (int i = 1; i < OPTEST_BACKENDS; i++)
            for (int64_t r = 0; r < B * N * NH; r++)
                ((float *)rrms->t[i].data)[r] = ((float *)rrms->t[0].data)[r];
        RUN_ALL(t, head_norm_rope_bwd, OP(dx), OP(dscale), OP(y), OP(x), D + 1,
                OP(rrms), OP(scale), turned ? OP(rope) : NULL);
        optest_check_sum(&t, "head_norm_rope_bwd dx", dx, HD, 4.0);
        optest_check_sum(&t, "head_norm_rope_bwd dscale", dscale, B * N * NH, 4.0);
        optest_check_exact("head_norm_rope_bwd dx", dx);
        optest_check_exact("head_norm_rope_bwd dscale", dscale);
        optest_close(&t);
    }
}

/* Gradients: one context for all three, forward chosen by the test. */
struct context {
    struct optest t;
    struct operand *x, *y, *mean, *rstd, *mod, *h, *scale, *rope;
};

static void ln_forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, ln_modulate_fwd, OP(c->y), OP(c->mean), OP(c->rstd), OP(c->x),
        OP(c->mod), 0, 1, EPS);
}

static void gate_forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, gate_residual_fwd, OP(c->y), OP(c->h), OP(c->x), OP(c->mod), 1);
}

static void head_forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, head_norm_rope_fwd, OP(c->y), OP(c->mean), OP(c->x), 0, OP(c->scale),
        OP(c->rope), EPS);
}

static void test_gradients(void **state)
{
    struct context c;
    (void)state;
    optest_open(&c.t);
    c.x = optest_operand(&c.t, 2, 3, 8, -1);
    c.y = optest_operand(&c.t, 2, 3, 8, -1);
    c.h = optest_operand(&c.t, 2, 3, 8, -1);
    c.mean = optest_operand(&c.t, 6, -1, -1, -1);
    c.rstd = optest_operand(&c.t, 6, -1, -1, -1);
    c.mod = optest_operand(&c.t, 2, 16, -1, -1);
    c.scale = optest_operand(&c.t, 4, -1, -1, -1);
    c.rope = optest_operand(&c.t, 1, 3, 2, 2);
    struct operand *dy = optest_operand(&c.t, 2, 3, 8, -1);
    struct operand *dx = optest_operand(&c.t, 2, 3, 8, -1);
    struct operand *dmod = optest_operand(&c.t, 2, 16, -1, -1);
    struct operand *dscale = optest_operand(&c.t, 4, -1, -1, -1);
    optest_scale(c.x, 2.0F, 0.0F); /* keeps steps small beside a row's spread */

    struct gradient_test g = {c.y, dy, ln_forward, &c};
    ln_forward(&c);
    RUN(c.t, 0, ln_modulate_bwd, OP(dx), false, OP(dmod), OP(dy), OP(c.x), OP(c.mean),
        OP(c.rstd), OP(c.mod), 0, 1);
    optest_check_gradient(&g, "ln_modulate x", c.x, dx);
    optest_check_gradient(&g, "ln_modulate mod", c.mod, dmod);

    g.forward = gate_forward;
    optest_fill(dmod, 0.0F); /* the block not used has no gradient */
    RUN(c.t, 0, gate_residual_bwd, OP(dx), OP(dmod), OP(dy), OP(c.x), OP(c.mod), 1);
    optest_check_gradient(&g, "gate_residual x", c.x, dx);
    optest_check_gradient(&g, "gate_residual mod", c.mod, dmod);
    optest_check_gradient(&g, "gate_residual h", c.h, dy);

    c.mean = optest_operand(&c.t, 2, 3, 2, -1);
    g.forward = head_forward;
    optest_fill(dscale, 0.0F);
    head_forward(&c);
    RUN(c.t, 0, head_norm_rope_bwd, OP(dx), OP(dscale), OP(dy), OP(c.x), 0, OP(c.mean),
        OP(c.scale), OP(c.rope));
    optest_check_gradient(&g, "head_norm_rope x", c.x, dx);
    optest_check_gradient(&g, "head_norm_rope scale", c.scale, dscale);
    optest_close(&c.t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ln_modulate),
        cmocka_unit_test(test_gate_residual),
        cmocka_unit_test(test_head_norm_rope),
        cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
