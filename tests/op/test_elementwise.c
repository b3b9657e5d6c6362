/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that treat each element alone; exp's accuracy over its whole range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/lib/optest.h"
#include "train/bf16.h"

static const int64_t counts[] = {0, 1, 2, 15, 16, 17, 31,
                                 32, 33, 8191, 8192, 8193, 40009};
#define N_COUNTS (sizeof(counts) / sizeof(counts[0]))

static void test_activations(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_COUNTS; k++) {
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *u = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *y = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *dy = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *dx = optest_operand(&t, counts[k], -1, -1, -1);
        optest_scale(x, 3.0F, 0.0F);
        RUN_ALL(t, silu_fwd, OP(y), OP(x));
        optest_check(&t, "silu_fwd", y, 4);
        for (int add = 0; add < 2; add++) {
            RUN_ALL(t, silu_bwd, OP(dx), add, OP(dy), OP(x));
            optest_check(&t, "silu_bwd", dx, 4);
        }
        RUN_ALL(t, gated_gelu_fwd, OP(y), OP(x), OP(u));
        optest_check(&t, "gated_gelu_fwd", y, 4);
        RUN_ALL(t, gated_gelu_bwd, OP(dx), OP(y), OP(dy), OP(x), OP(u));
        optest_check(&t, "gated_gelu_bwd dg", dx, 8);
        optest_check(&t, "gated_gelu_bwd du", y, 4);
        RUN_ALL(t, gated_gelu_bwd, OP(x), OP(u), OP(dy), OP(x), OP(u));
        optest_check(&t, "gated_gelu_bwd in place, dg", x, 8);
        optest_check(&t, "gated_gelu_bwd in place, du", u, 4);
        optest_close(&t);
    }
}

static void test_sums(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_COUNTS; k++) {
        struct optest t;
        optest_open(&t);
        struct operand *a = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *b = optest_operand(&t, counts[k], -1, -1, -1);
        struct operand *y = optest_operand(&t, counts[k], -1, -1, -1);
        RUN_ALL(t, add, OP(y), OP(a), OP(b));
        optest_check(&t, "add", y, 1);
        RUN_ALL(t, add, OP(a), OP(a), OP(b));
        optest_check(&t, "add in place", a, 1);
        RUN_ALL(t, axpby, OP(y), 0.75F, OP(b), -2.0F);
        optest_check(&t, "axpby", y, 2);
        optest_fill(y, NAN);
        RUN_ALL(t, axpby, OP(y), 0.75F, OP(b), 0.0F);
        optest_check(&t, "axpby that does not read y", y, 1);
        optest_close(&t);
    }
}

static void test_flow_mix(void **state)
{
    static const int64_t samples[][2] = {{0, 5}, {3, 0}, {1, 1}, {3, 37}, {5, 640}};
    (void)state;
    for (size_t k = 0; k < 5; k++) {
        struct optest t;
        optest_open(&t);
        int64_t B = samples[k][0], n = samples[k][1];
        struct operand *x0 = optest_operand(&t, B, n, -1, -1);
        struct operand *noise = optest_operand(&t, B, n, -1, -1);
        struct operand *xt = optest_operand(&t, B, n, -1, -1);
        struct operand *v = optest_operand(&t, B, n, -1, -1);
        struct operand *at = optest_operand(&t, B, -1, -1, -1);
        RUN_ALL(t, flow_mix, OP(xt), OP(v), OP(x0), OP(noise), OP(at));
        optest_check(&t, "flow_mix xt", xt, 2);
        optest_check(&t, "flow_mix v", v, 1);
        RUN_ALL(t, flow_mix, OP(xt), NULL, OP(x0), OP(noise), OP(at));
        optest_close(&t);
    }
}

static void test_x0_velocity(void **state)
{
    static const int64_t samples[][2] = {{0, 5}, {3, 0}, {1, 1}, {3, 37}, {5, 640}};
    (void)state;
    for (size_t k = 0; k < 5; k++) {
        struct optest t;
        optest_open(&t);
        int64_t B = samples[k][0], n = samples[k][1];
        struct operand *x0 = optest_operand(&t, B, n, -1, -1);
        struct operand *xt = optest_operand(&t, B, n, -1, -1);
        struct operand *v = optest_operand(&t, B, n, -1, -1);
        struct operand *at = optest_operand(&t, B, -1, -1, -1);
        /* Timesteps on both sides of the clamp. */
        optest_scale(at, 0.1f, 0.05f);
        RUN_ALL(t, x0_velocity_fwd, OP(v), OP(xt), OP(x0), OP(at), 0.05f);
        optest_check(&t, "x0_velocity_fwd", v, 2);
        RUN_ALL(t, x0_velocity_bwd, OP(x0), false, OP(xt), OP(at), 0.05f);
        optest_check(&t, "x0_velocity_bwd", x0, 2);
        RUN_ALL(t, x0_velocity_bwd, OP(x0), true, OP(xt), OP(at), 0.05f);
        optest_check_sum(&t, "x0_velocity_bwd adding", x0, 2, 100.0);
        /* In place of x0, as sampling does. */
        RUN_ALL(t, x0_velocity_fwd, OP(x0), OP(xt), OP(x0), OP(at), 0.05f);
        optest_check_sum(&t, "x0_velocity_fwd in place", x0, 4, 2000.0);
        optest_close(&t);
    }
}

/* silu(x) for every exponent of x, both signs: never NaN, never far from the truth. */
static void test_range(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 4000, -1, -1, -1);
    struct operand *y = optest_operand(&t, 4000, -1, -1, -1);
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        for (int k = 0; k < 4000; k++)
            ((float *)x->t[i].data)[k] = (k % 2 ? 1.0F : -1.0F) * (float)k * 0.05F;
    RUN_ALL(t, silu_fwd, OP(y), OP(x));
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        for (int k = 0; k < 4000; k++) {
            double v = ((float *)x->t[i].data)[k];
            double want = v / (1.0 + exp(-v));
            assert_true(fabs(((float *)y->t[i].data)[k] - want) <=
                        8.0 * 1.2e-7 * fabs(want) + 1e-36);
        }
    }
    optest_close(&t);
}

static void test_nan_stays(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 20, -1, -1, -1);
    struct operand *y = optest_operand(&t, 20, -1, -1, -1);
    struct operand *u = optest_operand(&t, 20, -1, -1, -1);
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        ((float *)x->t[i].data)[18] = ((float *)x->t[i].data)[3] = NAN;
    RUN_ALL(t, silu_fwd, OP(y), OP(x));
    optest_check(&t, "silu_fwd with NaN", y, 4);
    RUN_ALL(t, gated_gelu_fwd, OP(y), OP(x), OP(u));
    optest_check(&t, "gated_gelu_fwd with NaN", y, 4);
    optest_close(&t);
}

struct context {
    struct optest t;
    struct operand *y, *x, *u;
};

static void silu_forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, silu_fwd, OP(c->y), OP(c->x));
}

static void gelu_forward(void *ctx)
{
    struct context *c = ctx;
    RUN(c->t, 0, gated_gelu_fwd, OP(c->y), OP(c->x), OP(c->u));
}

static void test_gradients(void **state)
{
    struct context c;
    (void)state;
    optest_open(&c.t);
    c.x = optest_operand(&c.t, 40, -1, -1, -1);
    c.u = optest_operand(&c.t, 40, -1, -1, -1);
    c.y = optest_operand(&c.t, 40, -1, -1, -1);
    struct operand *dy = optest_operand(&c.t, 40, -1, -1, -1);
    struct operand *dx = optest_operand(&c.t, 40, -1, -1, -1);
    struct operand *du = optest_operand(&c.t, 40, -1, -1, -1);
    struct gradient_test g = {c.y, dy, silu_forward, &c};
    RUN(c.t, 0, silu_bwd, OP(dx), false, OP(dy), OP(c.x));
    optest_check_gradient(&g, "silu x", c.x, dx);
    g.forward = gelu_forward;
    RUN(c.t, 0, gated_gelu_bwd, OP(dx), OP(du), OP(dy), OP(c.x), OP(c.u));
    optest_check_gradient(&g, "gated_gelu g", c.x, dx);
    optest_check_gradient(&g, "gated_gelu u", c.u, du);
    optest_close(&c.t);
}

/* No rounding is left to chance: all backends have the bits of ref. */
static void check_same(const char *what, const struct operand *y)
{
    for (int i = 1; i < OPTEST_BACKENDS; i++)
        if (y->t[0].data &&
            memcmp(y->t[i].data, y->t[0].data, prx_tensor_bytes(&y->t[0])) != 0)
            fail_msg("%s: other bits than ref", what);
}

static void test_cast(void **state)
{
    static const int64_t sizes[] = {0, 1, 7, 31, 32, 33, 8193, 20011};
    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct optest t;
        optest_open(&t);
        struct operand *wide = optest_operand(&t, sizes[s], -1, -1, -1);
        struct operand *narrow = optest_narrow(&t, sizes[s], -1, -1, -1);
        struct operand *again = optest_operand(&t, sizes[s], -1, -1, -1);
        RUN_ALL(t, cast, OP(narrow), OP(wide));
        check_same("cast to bf16", narrow);
        RUN_ALL(t, cast, OP(again), OP(narrow));
        check_same("cast to f32", again);
        for (int64_t i = 0; i < sizes[s]; i++)
            assert_true(fabsf(((const float *)again->t[0].data)[i] -
                              ((const float *)wide->t[0].data)[i]) <=
                        fabsf(((const float *)wide->t[0].data)[i]) / 256);
        RUN_ALL(t, cast, OP(again), OP(wide));
        check_same("cast of one dtype", again);
        struct operand *other = optest_narrow(&t, sizes[s], -1, -1, -1);
        RUN_ALL(t, cast, OP(other), OP(narrow));
        check_same("cast of bf16 to itself", other);
        optest_close(&t);
    }
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Halfway to the even neighbour, overflow to infinity, NaN that stays one. */
static void test_cast_rounds(void **state)
{
    static const struct {
        uint32_t f32;
        uint16_t bf16;
    } rows[] = {
        {0x00000000, 0x0000},
        {0x80000000, 0x8000},
        {0x3f800000, 0x3f80},
        {0x3f808000, 0x3f80},
        {0x3f808001, 0x3f81},
        {0x3f818000, 0x3f82},
        {0x3f817fff, 0x3f81},
        {0xbf818000, 0xbf82},
        {0x7f7f7fff, 0x7f7f},
        {0x7f7f8000, 0x7f80},
        {0x7f800000, 0x7f80},
        {0xff800000, 0xff80},
        {0x7fc00000, 0x7fc0},
        {0x7f800001, 0x7fc0},
        {0xffffffff, 0xffff},
        {0x00000001, 0x0000},
        {0x00008001, 0x0001},
    };
    enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *wide = optest_operand(&t, N_ROWS, -1, -1, -1);
    struct operand *narrow = optest_narrow(&t, N_ROWS, -1, -1, -1);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        for (int r = 0; r < N_ROWS; r++)
            ((float *)wide->t[i].data)[r] = float_of(rows[r].f32);
        RUN(t, i, cast, OP(narrow), OP(wide));
        for (int r = 0; r < N_ROWS; r++) {
            uint16_t got = ((const prx_bf16 *)narrow->t[i].data)[r].bits;
            if (got != rows[r].bf16)
                fail_msg("%08x gives %04x, not %04x", rows[r].f32, got, rows[r].bf16);
        }
    }
    optest_close(&t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_flow_mix),
        cmocka_unit_test(test_x0_velocity),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_cast),
        cmocka_unit_test(test_cast_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
