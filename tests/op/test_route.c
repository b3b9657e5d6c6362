/* SPDX-License-Identifier: Apache-2.0 */
/* Ops of token routing: they move rows, so all backends agree to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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

/* Indices 0..N-1 in a shuffled order of each sample, the first M of them. */
static struct operand *indices(struct optest *t, int64_t B, int64_t M, int64_t N)
{
    struct operand *idx = optest_mask(t, B, M);
    int32_t *order = calloc((size_t)N + 1, sizeof(*order));

    assert_non_null(order);
    srand(7);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t n = 0; n < N; n++)
            order[n] = (int32_t)n;
        for (int64_t n = N - 1; n > 0; n--) {
            int64_t other = rand() % (n + 1);
            int32_t kept = order[n];
            order[n] = order[other];
            order[other] = kept;
        }
        for (int i = 0; i < OPTEST_BACKENDS; i++)
            for (int64_t m = 0; m < M; m++)
                ((int32_t *)idx->t[i].data)[b * M + m] = order[m];
    }
    free(order);
    return idx;
}

static const int64_t shapes[][4] = {
    // B, N, M, X
    {1, 1, 1, 1},
    {2, 5, 3, 7},
    {3, 4, 4, 8},
    {2, 6, 0, 5},
    {0, 5, 3, 4},
    {2, 0, 0, 4},
    {1, 31, 16, 33},
    {3, 33, 31, 32},
    {2, 64, 32, 1},
    {2, 37, 1, 64},
    {4, 128, 64, 190},
};
#define N_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void test_gather(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        int64_t B = shapes[s][0], N = shapes[s][1], M = shapes[s][2], X = shapes[s][3];
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, B, N, X, -1);
        struct operand *shared = optest_operand(&t, 1, N, X, -1);
        struct operand *y = optest_operand(&t, B, M, X, -1);
        struct operand *dy = optest_operand(&t, B, M, X, -1);
        struct operand *dx = optest_operand(&t, B, N, X, -1);
        struct operand *idx = indices(&t, B, M, N);
        RUN_ALL(t, gather_tokens_fwd, OP(y), OP(x), OP(idx));
        check_same("gather_tokens_fwd", y);
        RUN_ALL(t, gather_tokens_fwd, OP(y), OP(shared), OP(idx));
        check_same("gather_tokens_fwd of one sample", y);
        RUN_ALL(t, gather_tokens_bwd, OP(dx), true, OP(dy), OP(idx));
        check_same("gather_tokens_bwd adding", dx);
        RUN_ALL(t, gather_tokens_bwd, OP(dx), false, OP(dy), OP(idx));
        check_same("gather_tokens_bwd", dx);
        /* What is put in its place is found there. */
        RUN_ALL(t, gather_tokens_fwd, OP(y), OP(dx), OP(idx));
        for (int i = 0; i < OPTEST_BACKENDS && y->t[i].data; i++)
            assert_memory_equal(y->t[i].data, dy->t[i].data,
                                prx_tensor_bytes(&y->t[i]));
        optest_close(&t);
    }
}

static void test_merge(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        int64_t B = shapes[s][0], N = shapes[s][1], M = shapes[s][2], X = shapes[s][3];
        struct optest t;
        optest_open(&t);
        struct operand *x = optest_operand(&t, B, M, X, -1);
        struct operand *rest = optest_operand(&t, B, N, X, -1);
        struct operand *token = optest_operand(&t, X, -1, -1, -1);
        struct operand *y = optest_operand(&t, B, N, X, -1);
        struct operand *dy = optest_operand(&t, B, N, X, -1);
        struct operand *dx = optest_operand(&t, B, M, X, -1);
        struct operand *drest = optest_operand(&t, B, N, X, -1);
        struct operand *dtoken = optest_operand(&t, X, -1, -1, -1);
        struct operand *idx = indices(&t, B, M, N);
        RUN_ALL(t, merge_tokens_fwd, OP(y), OP(x), OP(idx), OP(rest));
        check_same("merge_tokens_fwd", y);
        RUN_ALL(t, merge_tokens_fwd, OP(y), OP(x), OP(idx), OP(token));
        check_same("merge_tokens_fwd of a token", y);
        RUN_ALL(t, merge_tokens_bwd, OP(dx), OP(drest), true, OP(dy), OP(idx));
        check_same("merge_tokens_bwd adding", drest);
        RUN_ALL(t, merge_tokens_bwd, NULL, OP(drest), false, OP(dy), OP(idx));
        check_same("merge_tokens_bwd", drest);
        check_same("merge_tokens_bwd, dx", dx);
        RUN_ALL(t, merge_tokens_bwd, OP(dx), OP(dtoken), false, OP(dy), OP(idx));
        optest_check_sum(&t, "merge_tokens_bwd, dtoken", dtoken, B * N + 1, 1.0);
        optest_check_exact("merge_tokens_bwd, dtoken", dtoken);
        optest_close(&t);
    }
}

/* The formulas themselves, once, in full. */
static void test_rows_in_their_place(void **state)
{
    static const int32_t order[2][2] = {{2, 0}, {1, 2}};
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 2, 2, 2, -1);
    struct operand *rest = optest_operand(&t, 2, 3, 2, -1);
    struct operand *y = optest_operand(&t, 2, 3, 2, -1);
    struct operand *idx = optest_mask(&t, 2, 2);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        memcpy(idx->t[i].data, order, sizeof(order));
        for (int k = 0; k < 8; k++)
            ((float *)x->t[i].data)[k] = (float)k;
        for (int k = 0; k < 12; k++)
            ((float *)rest->t[i].data)[k] = (float)(100 + k);
    }
    RUN_ALL(t, merge_tokens_fwd, OP(y), OP(x), OP(idx), OP(rest));
    static const float want[12] = {2, 3, 102, 103, 0, 1, 106, 107, 4, 5, 6, 7};
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        assert_memory_equal(y->t[i].data, want, sizeof(want));
    RUN_ALL(t, gather_tokens_fwd, OP(x), OP(rest), OP(idx));
    static const float picked[8] = {104, 105, 100, 101, 108, 109, 110, 111};
    for (int i = 0; i < OPTEST_BACKENDS; i++)
        assert_memory_equal(x->t[i].data, picked, sizeof(picked));
    optest_close(&t);
}

static void test_refusals(void **state)
{
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *x = optest_operand(&t, 2, 5, 3, -1);
    struct operand *y = optest_operand(&t, 2, 2, 3, -1);
    struct operand *other = optest_operand(&t, 3, 5, 3, -1);
    struct operand *idx = indices(&t, 2, 2, 5);
    struct operand *longer = indices(&t, 2, 3, 5);
    for (int i = 0; i < 2; i++) {
        struct prx_backend *be = t.be[i];
        const struct prx_ops *ops = be->ops;
        assert_int_equal(ops->gather_tokens_fwd(be, &y->t[i], &other->t[i], &idx->t[i]),
                         PRX_ESHAPE);
        assert_int_equal(ops->gather_tokens_fwd(be, &y->t[i], &x->t[i], &longer->t[i]),
                         PRX_ESHAPE);
        assert_int_equal(ops->gather_tokens_fwd(be, &y->t[i], &x->t[i], &y->t[i]),
                         PRX_ESHAPE);
        assert_int_equal(ops->merge_tokens_fwd(be, &x->t[i], &y->t[i], &idx->t[i],
                                               &other->t[i]),
                         PRX_ESHAPE);
        ((int32_t *)idx->t[i].data)[3] = 5;
        assert_int_equal(ops->gather_tokens_fwd(be, &y->t[i], &x->t[i], &idx->t[i]),
                         PRX_EINVAL);
        ((int32_t *)idx->t[i].data)[3] = -1;
        assert_int_equal(ops->merge_tokens_fwd(be, &x->t[i], &y->t[i], &idx->t[i],
                                               &x->t[i]),
                         PRX_EINVAL);
    }
    optest_close(&t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_rows_in_their_place),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
