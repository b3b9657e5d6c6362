/* SPDX-License-Identifier: Apache-2.0 */
/* linear: all backends against ref, ref against differences, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/lib/near.h"
#include "tests/lib/optest.h"
#include "train/cpu/gemm_internal.h"

static const struct {
    int64_t R, I, O;
} shapes[] = {
    {0, 3, 5},
    {1, 1, 1},
    {3, 0, 5},
    {3, 5, 0},
    {1, 7, 13},
    {13, 1, 7},
    {7, 13, 1},
    {31, 32, 33},
    {33, 31, 32},
    {2, 401, 3},
    {97, 17, 101},
    {64, 192, 96},
    {130, 800, 67},
};

static void test_forward(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t R = shapes[s].R, I = shapes[s].I, O = shapes[s].O;
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, R, I, -1, -1);
        struct operand *w = optest_operand(&t, O, I, -1, -1);
        struct operand *b = optest_operand(&t, O, -1, -1, -1);
        struct operand *y = optest_operand(&t, R, O, -1, -1);
        RUN_ALL(t, linear_fwd, OP(y), OP(x), OP(w), NULL);
        optest_check(&t, "linear_fwd without bias", y, I);
        RUN_ALL(t, linear_fwd, OP(y), OP(x), OP(w), OP(b));
        optest_check(&t, "linear_fwd", y, I + 1);
        optest_close(&t);
    }
}

static void test_backward(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t R = shapes[s].R, I = shapes[s].I, O = shapes[s].O;
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, R, I, -1, -1);
        struct operand *w = optest_operand(&t, O, I, -1, -1);
        struct operand *dy = optest_operand(&t, R, O, -1, -1);
        struct operand *dx = optest_operand(&t, R, I, -1, -1);
        struct operand *dw = optest_operand(&t, O, I, -1, -1);
        struct operand *db = optest_operand(&t, O, -1, -1, -1);
        for (int add = 0; add < 2; add++) {
            RUN_ALL(t, linear_bwd, OP(dx), add, OP(dw), OP(db), OP(dy), OP(x), OP(w));
            optest_check(&t, "linear_bwd dx", dx, O + 1);
            optest_check(&t, "linear_bwd dw", dw, R + 1);
            optest_check(&t, "linear_bwd db", db, R + 1);
        }
        RUN_ALL(t, linear_bwd, NULL, false, NULL, NULL, OP(dy), OP(x), OP(w));
        optest_close(&t);
    }
}

/* The suite's own product stands in where no library is built in: hold it to ref. */
static void test_own_product(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        int64_t R = shapes[s].R, I = shapes[s].I, O = shapes[s].O;
        struct optest t;
        if (R == 0 || I == 0 || O == 0)
            continue;
        optest_open(&t);
        struct operand *x = optest_operand(&t, R, I, -1, -1);
        struct operand *w = optest_operand(&t, O, I, -1, -1);
        struct operand *b = optest_operand(&t, O, -1, -1, -1);
        struct operand *y = optest_operand(&t, R, O, -1, -1);
        struct operand *dx = optest_operand(&t, R, I, -1, -1);
        struct operand *dw = optest_operand(&t, O, I, -1, -1);
        RUN(t, 0, linear_fwd, OP(y), OP(x), OP(w), OP(b));
        RUN(t, 0, linear_bwd, OP(dx), true, OP(dw), NULL, OP(y), OP(x), OP(w));
        for (int i = 1; i < OPTEST_BACKENDS; i++) {
            struct prx_gemm fwd = {
                .M = R,
                .N = O,
                .K = I,
                .a = x->t[i].data,
                .a_row = I,
                .a_k = 1,
                .b = w->t[i].data,
                .b_k = 1,
                .b_col = I,
                .bias = b->t[i].data,
                .c = y->t[i].data,
                .c_row = O,
            };
            struct prx_gemm input = {
                .M = R,
                .N = I,
                .K = O,
                .a = y->t[0].data,
                .a_row = O,
                .a_k = 1,
                .b = w->t[i].data,
                .b_k = I,
                .b_col = 1,
                .c = dx->t[i].data,
                .c_row = I,
                .add = true,
            };
            struct prx_gemm weight = {
                .M = O,
                .N = I,
                .K = R,
                .a = y->t[0].data,
                .a_row = 1,
                .a_k = O,
                .b = x->t[i].data,
                .b_k = I,
                .b_col = 1,
                .c = dw->t[i].data,
                .c_row = I,
                .add = true,
            };
            optest_must(prx_cpu_gemm_blocks(t.be[i], &fwd), "own product");
            optest_must(prx_cpu_gemm_blocks(t.be[i], &input), "own product");
            optest_must(prx_cpu_gemm_blocks(t.be[i], &weight), "own product");
        }
        optest_check(&t, "own product y", y, I + 1);
        optest_check(&t, "own product dx", dx, O + 1);
        optest_check(&t, "own product dw", dw, R + 1);
        optest_check_exact("own product y", y);
        optest_check_exact("own product dw", dw);
        optest_close(&t);
    }
}

struct linear_case {
    struct optest t;
    struct operand *y, *x, *w, *b;
};

static void forward(void *ctx)
{
    struct linear_case *c = ctx;
    RUN(c->t, 0, linear_fwd, OP(c->y), OP(c->x), OP(c->w), OP(c->b));
}

static void test_gradient(void **state)
{
    struct linear_case c;
    (void)state;
    optest_open(&c.t);
    c.x = optest_operand(&c.t, 3, 5, -1, -1);
    c.w = optest_operand(&c.t, 7, 5, -1, -1);
    c.b = optest_operand(&c.t, 7, -1, -1, -1);
    c.y = optest_operand(&c.t, 3, 7, -1, -1);
    struct operand *dy = optest_operand(&c.t, 3, 7, -1, -1);
    struct operand *dx = optest_operand(&c.t, 3, 5, -1, -1);
    struct operand *dw = optest_operand(&c.t, 7, 5, -1, -1);
    struct operand *db = optest_operand(&c.t, 7, -1, -1, -1);
    optest_fill(dw, 0.0F);
    optest_fill(db, 0.0F);
    RUN(c.t, 0, linear_bwd, OP(dx), false, OP(dw), OP(db), OP(dy), OP(c.x), OP(c.w));
    struct gradient_test g = {c.y, dy, forward, &c};
    optest_check_gradient(&g, "linear x", c.x, dx);
    optest_check_gradient(&g, "linear w", c.w, dw);
    optest_check_gradient(&g, "linear b", c.b, db);
    optest_close(&c.t);
}

static void test_refusals(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 3, 5, -1, -1);
    struct operand *w = optest_operand(&t, 7, 6, -1, -1);
    struct operand *y = optest_operand(&t, 3, 7, -1, -1);
    struct operand *mask = optest_mask(&t, 7, 5);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        const struct prx_ops *ops = t.be[i]->ops;
        float before = *(float *)y->t[i].data;
        assert_int_equal(ops->linear_fwd(t.be[i], &y->t[i], &x->t[i], &w->t[i], NULL),
                         PRX_ESHAPE);
        assert_int_equal(
            ops->linear_fwd(t.be[i], &y->t[i], &x->t[i], &mask->t[i], NULL),
            PRX_ESHAPE);
        assert_int_equal(ops->linear_fwd(t.be[i], &y->t[i], &x->t[i], NULL, NULL),
                         PRX_ESHAPE);
        assert_true(*(float *)y->t[i].data == before);
    }
    optest_close(&t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_own_product),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
