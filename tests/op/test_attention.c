/* SPDX-License-Identifier: Apache-2.0 */
/* attention: text and image keys, masks, odd sizes; gradients by differences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "tests/lib/optest.h"

struct shape {
    int64_t B, N, M, L, NH, HD;
    bool masked;
};

static const struct shape shapes[] = {
    {1, 1, 1, 0, 1, 2, false},
    {2, 3, 3, 5, 2, 4, true},
    {1, 31, 31, 33, 3, 32, true},
    {2, 33, 33, 32, 1, 64, false},
    {1, 13, 17, 7, 2, 72, true},
    {1, 65, 65, 1, 1, 128, true},
    {1, 32, 32, 0, 2, 6, false},
    {0, 4, 4, 4, 1, 4, true},
    {1, 0, 5, 3, 1, 8, true},
    {1, 5, 0, 3, 1, 8, false},
    {3, 64, 64, 64, 6, 32, true},
    {1, 2, 2, 3, 1, 1, true},
};

/* q, k, v as the denoiser lays them out: v and vt are blocks of wider rows. */
struct problem {
    struct optest t;
    struct shape s;
    struct operand *q, *k, *v, *kt, *vt, *mask, *o, *lse;
    struct operand *do_, *dq, *dk, *dv, *dkt, *dvt;
    int64_t col_v, col_vt;
};

static void problem_open(struct problem *p, const struct shape *s)
{
    int64_t D = s->NH * s->HD;
    struct optest *t = &p->t;
    optest_open(t);
    p->s = *s;
    p->col_v = 2 * D;
    p->col_vt = D + 1;
    p->q = optest_operand(t, s->B, s->N, D, -1);
    p->k = optest_operand(t, s->B, s->M, D, -1);
    p->v = optest_operand(t, s->B, s->M, 3 * D, -1);
    p->kt = optest_operand(t, s->B, s->L, D, -1);
    p->vt = optest_operand(t, s->B, s->L, 2 * D + 1, -1);
    p->mask = optest_mask(t, s->B, s->L);
    p->o = optest_operand(t, s->B, s->N, D, -1);
    p->lse = optest_operand(t, s->B, s->NH, s->N, -1);
    p->do_ = optest_operand(t, s->B, s->N, D, -1);
    p->dq = optest_operand(t, s->B, s->N, D, -1);
    p->dk = optest_operand(t, s->B, s->M, D, -1);
    p->dv = optest_operand(t, s->B, s->M, 3 * D, -1);
    p->dkt = optest_operand(t, s->B, s->L, D, -1);
    p->dvt = optest_operand(t, s->B, s->L, 2 * D + 1, -1);
}

static void run_fwd(struct problem *p, int i)
{
    RUN(p->t, i, attention_fwd, OP(p->o), OP(p->lse), OP(p->q), OP(p->k), OP(p->v),
        p->col_v, OP(p->kt), OP(p->vt), p->col_vt, p->s.masked ? OP(p->mask) : NULL,
        p->s.NH);
}

static void run_bwd(struct problem *p, int i)
{
    RUN(p->t, i, attention_bwd, OP(p->dq), OP(p->dk), OP(p->dv), OP(p->dkt), OP(p->dvt),
        OP(p->do_), OP(p->o), OP(p->lse), OP(p->q), OP(p->k), OP(p->v), p->col_v,
        OP(p->kt), OP(p->vt), p->col_vt, p->s.masked ? OP(p->mask) : NULL, p->s.NH);
}

static void test_against_ref(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        struct problem p;
        problem_open(&p, &shapes[s]);
        int64_t n_keys = p.s.L + p.s.M;
        int64_t n_terms = n_keys + p.s.HD;
        for (int i = 0; i < OPTEST_BACKENDS; i++) {
            run_fwd(&p, i);
            run_bwd(&p, i);
        }
        optest_check(&p.t, "attention_fwd o", p.o, n_terms);
        optest_check(&p.t, "attention_fwd lse", p.lse, n_terms);
        /* dS = P (dP - do.o) cancels where one key has all the weight. */
        optest_check_sum(&p.t, "attention_bwd dq", p.dq, n_terms + p.s.HD, 1.0);
        optest_check_sum(&p.t, "attention_bwd dk", p.dk, n_terms + p.s.N, 1.0);
        optest_check(&p.t, "attention_bwd dv", p.dv, n_terms + p.s.N);
        optest_check_sum(&p.t, "attention_bwd dkt", p.dkt, n_terms + p.s.N, 1.0);
        optest_check(&p.t, "attention_bwd dvt", p.dvt, n_terms + p.s.N);
        struct operand *all[] = {p.o, p.lse, p.dq, p.dk, p.dv, p.dkt, p.dvt};
        for (int i = 0; i < 7; i++)
            optest_check_exact("attention", all[i]);
        optest_close(&p.t);
    }
}

/* Scores far beyond what exp can hold must neither overflow nor lose the winner. */
static void test_large_scores(void **state)
{
    struct problem p;
    const struct shape s = {1, 5, 7, 3, 1, 16, false};
    (void)state;
    problem_open(&p, &s);
    optest_scale(p.q, 100.0F, 0.0F);
    optest_scale(p.k, 100.0F, 0.0F);
    optest_scale(p.kt, 100.0F, 0.0F);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        run_fwd(&p, i);
        const float *o = p.o->t[i].data;
        for (int64_t k = 0; k < 5 * 16; k++)
            assert_true(isfinite(o[k]));
    }
    optest_check(&p.t, "attention with large scores", p.o, 16);
    optest_close(&p.t);
}

/* Hidden keys change nothing; their gradients are exactly zero. */
static void test_hidden_keys(void **state)
{
    struct problem p;
    const struct shape s = {2, 9, 9, 6, 2, 8, true};
    (void)state;
    problem_open(&p, &s);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        int32_t *mask = p.mask->t[i].data;
        for (int j = 0; j < 12; j++)
            mask[j] = j < 6 ? j == 1 || j == 2 : 0; /* the second sample hides all */
        float *kt = p.kt->t[i].data;
        kt[0] = NAN; /* must not be read */
        run_fwd(&p, i);
        run_bwd(&p, i);
        const float *dkt = p.dkt->t[i].data;
        for (int k = 0; k < 16; k++) {
            assert_true(dkt[k] == 0.0F);
            assert_true(dkt[6 * 16 + k] == 0.0F);
        }
    }
    optest_check(&p.t, "attention o, hidden keys", p.o, 17);
    optest_check(&p.t, "attention dk, hidden keys", p.dk, 17);
    optest_close(&p.t);
}

static void forward(void *ctx)
{
    run_fwd(ctx, 0);
}

static void test_gradient(void **state)
{
    static const struct shape cases[] = {{2, 3, 4, 3, 2, 4, true},
                                         {1, 3, 2, 0, 1, 6, false}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct problem p;
        problem_open(&p, &cases[i]);
        struct gradient_test g = {p.o, p.do_, forward, &p};
        struct operand *blocks[] = {p.dv, p.dvt};
        for (int k = 0; k < 2; k++)
            optest_fill(blocks[k], 0.0F); /* columns outside the block: no gradient */
        run_fwd(&p, 0);
        run_bwd(&p, 0);
        optest_check_gradient(&g, "attention q", p.q, p.dq);
        optest_check_gradient(&g, "attention k", p.k, p.dk);
        optest_check_gradient(&g, "attention v", p.v, p.dv);
        optest_check_gradient(&g, "attention kt", p.kt, p.dkt);
        optest_check_gradient(&g, "attention vt", p.vt, p.dvt);
        optest_close(&p.t);
    }
}

static void test_refusals(void **state)
{
    struct problem p;
    const struct shape s = {1, 3, 3, 2, 2, 4, false};
    (void)state;
    problem_open(&p, &s);
    for (int i = 0; i < OPTEST_BACKENDS; i++) {
        struct prx_backend *be = p.t.be[i];
        const struct {
            int64_t col_v, n_heads;
            struct prx_tensor *vt;
        } bad[] = {
            {17, 2, &p.vt->t[i]},
            {-1, 2, &p.vt->t[i]},
            {0, 3, &p.vt->t[i]},
            {0, 0, &p.vt->t[i]},
            {0, 2, NULL},
        };
        for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
            assert_int_equal(be->ops->attention_fwd(be, &p.o->t[i], &p.lse->t[i],
                                                    &p.q->t[i], &p.k->t[i], &p.v->t[i],
                                                    bad[k].col_v, &p.kt->t[i],
                                                    bad[k].vt, 0, NULL, bad[k].n_heads),
                             PRX_ESHAPE);
    }
    optest_close(&p.t);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_hidden_keys),
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
