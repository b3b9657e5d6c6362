/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that move numbers: patches, joined tokens, sinusoids.  Exact on all backends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "tests/lib/optest.h"

static void check_same(const char *what, const struct operand *operand)
{
    for (int i = 1; i < OPTEST_BACKENDS; i++)
        if (operand->t[0].data && memcmp(operand->t[i].data, operand->t[0].data,
                                         prx_tensor_bytes(&operand->t[0])) != 0)
            fail_msg("%s differs from ref", what);
}

static void test_patchify(void **state)
{
    static const int64_t shapes[][5] = {
        {0, 3, 4, 4, 2},
        {1, 1, 1, 1, 1},
        {2, 3, 6, 4, 2},
        {1, 16, 8, 12, 4},
        {2, 5, 33, 31, 1},
        {1, 4, 0, 4, 2},
    };
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        const int64_t *d = shapes[s];
        int64_t P = d[4], N = (d[2] / P) * (d[3] / P);
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, d[0], d[1], d[2], d[3]);
        struct operand *back = optest_operand(&t, d[0], d[1], d[2], d[3]);
        struct operand *y = optest_operand(&t, d[0], N, d[1] * P * P, -1);
        RUN_ALL(t, patchify, OP(y), OP(x), P);
        check_same("patchify", y);
        RUN_ALL(t, unpatchify, OP(back), OP(y), P);
        check_same("unpatchify", back);
        if (x->t[0].data)
            assert_memory_equal(back->t[0].data, x->t[0].data,
                                prx_tensor_bytes(&x->t[0]));
        assert_int_equal(t.be[1]->ops->patchify(t.be[1], &y->t[1], &x->t[1], P + 1),
                         PRX_ESHAPE);
        assert_int_equal(t.be[0]->ops->patchify(t.be[0], &y->t[0], &x->t[0], 0),
                         PRX_ESHAPE);
        optest_close(&t);
    }
}

/* The formula itself, once, in full. */
static void test_patch_order(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 1, 2, 4, 6);
    struct operand *y = optest_operand(&t, 1, 6, 8, -1);
    RUN_ALL(t, patchify, OP(y), OP(x), 2);
    for (int c = 0; c < 2; c++)
        for (int row = 0; row < 4; row++)
            for (int column = 0; column < 6; column++) {
                int n = row / 2 * 3 + column / 2;
                int at = (c * 2 + row % 2) * 2 + column % 2;
                assert_true(((float *)y->t[0].data)[n * 8 + at] ==
                            ((float *)x->t[0].data)[(c * 4 + row) * 6 + column]);
            }
    optest_close(&t);
}

static void test_concat(void **state)
{
    static const int64_t shapes[][4] = {
        {0, 2, 3, 4}, {2, 0, 3, 4}, {2, 3, 0, 4}, {1, 1, 1, 1}, {3, 7, 2, 33}};
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        const int64_t *d = shapes[s];
        struct optest t;
        optest_open(&t);
        struct operand *a = optest_operand(&t, d[0], d[1], d[3], -1);
        struct operand *x = optest_operand(&t, d[0], d[2], d[3], -1);
        struct operand *y = optest_operand(&t, d[0], d[1] + d[2], d[3], -1);
        struct operand *da = optest_operand(&t, d[0], d[1], d[3], -1);
        struct operand *dx = optest_operand(&t, d[0], d[2], d[3], -1);
        RUN_ALL(t, concat_tokens_fwd, OP(y), OP(a), OP(x));
        check_same("concat_tokens_fwd", y);
        RUN_ALL(t, concat_tokens_bwd, OP(da), NULL, OP(y));
        RUN_ALL(t, concat_tokens_bwd, NULL, OP(dx), OP(y));
        for (int i = 0; i < OPTEST_BACKENDS; i++) {
            if (a->t[i].data)
                assert_memory_equal(da->t[i].data, a->t[i].data,
                                    prx_tensor_bytes(&a->t[i]));
            if (x->t[i].data)
                assert_memory_equal(dx->t[i].data, x->t[i].data,
                                    prx_tensor_bytes(&x->t[i]));
        }
        optest_close(&t);
    }
}

static void test_sinusoid(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *y = optest_operand(&t, 3, 300, -1, -1);
    struct operand *v = optest_operand(&t, 3, -1, -1, -1);
    RUN_ALL(t, sinusoid, OP(y), 10, 256, OP(v), 1000.0F, 10000.0F);
    check_same("sinusoid", y);
    /* a_0 = factor v: the first cosine and the first sine are of that angle. */
    const float *row = (const float *)y->t[0].data + 10;
    assert_true(row[0] * row[0] + row[128] * row[128] > 0.99999F);
    assert_int_equal(
        t.be[1]->ops->sinusoid(t.be[1], &y->t[1], 50, 256, &v->t[1], 1, 100),
        PRX_ESHAPE);
    optest_close(&t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patchify),
        cmocka_unit_test(test_patch_order),
        cmocka_unit_test(test_concat),
        cmocka_unit_test(test_sinusoid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
