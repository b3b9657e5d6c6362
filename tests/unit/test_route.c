/* SPDX-License-Identifier: Apache-2.0 */
/* route.h: how many tokens are visible, and which. */
#include "train/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define N_TOKENS 20
#define N_DRAWS  2000

/* Counts of the reference: halves go to the even number, and none or all never. */
static void counts(void **state)
{
    static const struct {
        int64_t n_tokens;
        double share;
        int64_t want;
    } rows[] = {
        {256, 0.5, 128},
        {256, 0.75, 64},
        {5, 0.5, 3},
        {7, 0.5, 3},
        {1024, 0.75, 256},
        {10, 0.0, 9},
        {10, 1.0, 1},
        {10, 0.01, 9},
        {2, 0.5, 1},
        {1, 0.5, 1},
        {0, 0.5, 0},
        {9, 0.75, 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(prx_route_n_visible(rows[i].n_tokens, rows[i].share),
                         rows[i].want);
}

static void draws_are_fair_and_ascending(void **state)
{
    int n_seen[N_TOKENS] = {0};
    (void)state;
    for (uint64_t k = 0; k < N_DRAWS; k++) {
        int32_t visible[N_TOKENS];
        struct prx_rng rng;
        prx_rng_init(&rng, 1, PRX_RNG_ROUTE, 0, k);
        assert_int_equal(prx_route_draw(&rng, N_TOKENS, 0.75, visible), 0);
        for (int i = 0; i < 5; i++) {
            assert_in_range(visible[i], i > 0 ? visible[i - 1] + 1 : 0, N_TOKENS - 1);
            n_seen[visible[i]]++;
        }
    }
    /* A quarter of all: 500, give or take four deviations of 19. */
    for (int i = 0; i < N_TOKENS; i++)
        assert_in_range(n_seen[i], 500 - 78, 500 + 78);
}

static void a_draw_is_a_function_of_its_stream(void **state)
{
    int32_t a[8], b[8];
    struct prx_rng rng;
    (void)state;
    for (int i = 0; i < 2; i++) {
        prx_rng_init(&rng, 5, PRX_RNG_ROUTE, 2, 9);
        assert_int_equal(prx_route_draw(&rng, 16, 0.5, i == 0 ? a : b), 0);
    }
    assert_memory_equal(a, b, sizeof(a));
    prx_rng_init(&rng, 5, PRX_RNG_ROUTE, 3, 9);
    assert_int_equal(prx_route_draw(&rng, 16, 0.5, b), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(draws_are_fair_and_ascending),
        cmocka_unit_test(a_draw_is_a_function_of_its_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
