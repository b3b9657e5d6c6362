/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near.h - whether two computations of the same numbers agree up to rounding.
 *
 * A sum of n terms, rounded at each step, is off by about eps sqrt(n) times its
 * usual size; two float32 evaluations in different orders differ by no more than a
 * small multiple of that.  The multiple is one constant for all tests, the usual
 * size is the root mean square of what is wanted, and n is what the formula sums:
 * nothing is tuned to make a test pass.
 */
#ifndef PRX_TESTS_LIB_NEAR_H
#define PRX_TESTS_LIB_NEAR_H

#include <stdbool.h>
#include <stdint.h>

#define NEAR_MULTIPLE 8.0

/* What is known of a sum's rounding. */
struct near_terms {
    int64_t n;   /* how many are summed */
    double size; /* of a term, where the sum may cancel below it; else 0 */
};

/**
 * near_check - whether got [n] agrees with want [n].
 *
 * Each may be off by NEAR_MULTIPLE eps sqrt(terms.n) (usual size + |want|).  Says on
 * stderr, under the name @what, which element is worst when not.  NaN agrees with NaN
 * only, an infinity with itself only.
 */
bool near_check(const char *what, const float *got, const float *want, int64_t n,
                struct near_terms terms);

#endif
