/* SPDX-License-Identifier: Apache-2.0 */
/* Muon: matrices of every shape, and what makes its update one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/optest.h"
#include "train/bf16.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static const int64_t shapes[][2] = {
    {0, 5},
    {5, 0},
    {1, 1},
    {1, 37},
    {37, 1},
    {7, 7},
    {31, 33},
    {33, 31},
    {13, 101},
    {101, 13},
    {64, 64},
    {127, 65},
    {96, 200},
};

static struct prx_muon_args args_of(int ns_steps, bool bf16, bool adds)
{
    return (struct prx_muon_args){
        .lr = 0.02,
        .momentum = 0.95,
        .nesterov = adds,
        .weight_decay = adds ? 0.0 : 0.1,
        .ns_steps = ns_steps,
        .a = 3.4445,
        .b = -4.7750,
        .c = 2.0315,
        .eps = 1e-7,
        .eps_mode = adds ? PRX_MUON_EPS_ADD : PRX_MUON_EPS_CLAMP,
        .rms_scale = adds,
        .bf16 = bf16,
        .grad_scale = 0.5,
    };
}

static void step(struct optest *t, const struct operand *p, const struct operand *g,
                 const struct operand *m, const struct prx_muon_args *args)
{
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        const struct prx_muon_slot slot = {p->t[i], g->t[i], m->t[i]};
        RUN(*t, i, muon, &slot, 1, args);
    }
}

/*
 * X is off by the rounding of its sums, and an iteration makes of that at most four
 * times as much: 4 is the slope of a s + b s^3 + c s^5 at its steepest for singular
 * values s <= 1.2.  In bf16 all numbers round 2^15 times as coarsely.
 */
static int64_t n_terms(int64_t O, int64_t I, const struct prx_muon_args *args)
{
    int64_t n = O > I ? O : I;
    for (int i = 0; i < args->ns_steps; i++)
        n *= 16;
    return args->bf16 ? n * (INT64_C(1) << 30) : n;
}

static void test_shapes(void **state)
{
    static const int ns_steps[] = {0, 1, 2, 5};
    (void)state;
    for (size_t s = 0; s < N_OF(shapes); s++) {
        for (size_t k = 0; k < 4 * N_OF(ns_steps); k++) {
            const struct prx_muon_args args = args_of(ns_steps[k / 4], k & 1, k & 2);
            int64_t O = shapes[s][0], I = shapes[s][1];
            struct optest t;
            optest_open(&t);
            struct operand *p = optest_operand(&t, O, I, -1, -1);
            struct operand *g = optest_operand(&t, O, I, -1, -1);
            struct operand *m = optest_operand(&t, O, I, -1, -1);
            optest_fill(p, 0.0F); /* so that the update is all there is to see */
            step(&t, p, g, m, &args);
            char what[64];
            snprintf(what, sizeof(what), "muon [%d, %d], %d steps, mode %d", (int)O,
                     (int)I, args.ns_steps, (int)k & 3);
            optest_check(&t, what, p, n_terms(O, I, &args));
            optest_check(&t, "muon m", m, 4);
            optest_check_exact("muon p", p);
            optest_close(&t);
        }
    }
}

/* Stored as bf16: the state rounds once, whatever runs. */
static void test_storage(void **state)
{
    const struct prx_muon_args args = args_of(1, false, true);
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *p = optest_narrow(&t, 33, 270, -1, -1);
    struct operand *g = optest_operand(&t, 33, 270, -1, -1);
    struct operand *m = optest_narrow(&t, 33, 270, -1, -1);
    step(&t, p, g, m, &args);
    optest_check(&t, "muon p, bf16", p, n_terms(33, 270, &args));
    optest_check(&t, "muon m, bf16", m, 4);
    optest_close(&t);
}

/* Several matrices in one call are each alone, and zero stays zero. */
static void test_list(void **state)
{
    const struct prx_muon_args args = args_of(5, false, true);
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *o[3][3];
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < 3; j++)
            o[k][j] = optest_operand(&t, 9 + 4 * k, 17 - 4 * k, -1, -1);
    optest_fill(o[1][1], 0.0F);
    optest_fill(o[1][2], 0.0F);
    struct operand *before = optest_operand(&t, 13, 13, -1, -1);
    RUN_ALL(t, axpby, OP(before), 1.0F, OP(o[1][0]), 0.0F);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        struct prx_muon_slot slots[3];
        for (int k = 0; k < 3; k++)
            slots[k] = (struct prx_muon_slot){o[k][0]->t[i], o[k][1]->t[i],
                                              o[k][2]->t[i]};
        RUN(t, i, muon, slots, 3, &args);
        assert_memory_equal(before->t[i].data, o[1][0]->t[i].data, 13 * 13 * 4);
    }
    for (int k = 0; k < 3; k++)
        optest_check(&t, "muon of three", o[k][0], n_terms(17, 17, &args));
    optest_close(&t);
}

/*
 * What it is for: the update's singular values are near 1, so the sum of the squares
 * of its elements, over f^2, is near the number of them, for any gradient.
 */
static void test_orthogonal(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        const int64_t O = k & 1 ? 48 : 24, I = 72 - O;
        struct prx_muon_args args = args_of(5, k & 2, true);
        struct optest t;
        double sum = 0;
        optest_open(&t);
        struct operand *p = optest_operand(&t, O, I, -1, -1);
        struct operand *g = optest_operand(&t, O, I, -1, -1);
        struct operand *m = optest_operand(&t, O, I, -1, -1);
        optest_fill(p, 0.0F);
        optest_fill(m, 0.0F);
        optest_scale(g, k & 1 ? 1e-4F : 1e3F, 0.0F);
        args.lr = 1.0;
        step(&t, p, g, m, &args);
        for (int i = 0; i < OPTEST_BACKENDS; i++) {
            sum = 0;
            for (int64_t j = 0; j < O * I; j++)
                sum += pow(((const float *)p->t[i].data)[j], 2);
            sum /= 0.2 * 0.2 * 48 * 24;
            if (!(sum > 0.6 && sum < 1.3))
                fail_msg("mean square of singular values: %g", sum);
        }
        optest_close(&t);
    }
}

static void test_refusals(void **state)
{
    const struct prx_muon_args args = args_of(5, false, true);
    struct optest t;
    (void)state;
    optest_open(&t);
    struct operand *p = optest_operand(&t, 3, 4, -1, -1);
    struct operand *other = optest_operand(&t, 4, 3, -1, -1);
    struct operand *vector = optest_operand(&t, 12, -1, -1, -1);
    struct operand *narrow = optest_narrow(&t, 3, 4, -1, -1);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        const struct prx_muon_slot slots[] = {
            {p->t[i], other->t[i], p->t[i]},
            {vector->t[i], vector->t[i], vector->t[i]},
            {p->t[i], narrow->t[i], p->t[i]},
        };
        for (size_t k = 0; k < N_OF(slots); k++) {
            assert_int_equal(t.be[i]->ops->muon(t.be[i], &slots[k], 1, &args),
                             PRX_ESHAPE);
            assert_memory_equal(prx_err_message(), "muon: ", 6);
        }
    }
    optest_close(&t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    return optest_main(argv, run);
}
