/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optest.h - one op on several backends, and its gradients against differences.
 *
 * A struct optest has "ref" at index 0 and the fast backends, of several numbers of
 * threads, behind it; a struct operand is one tensor on each of them, with the same
 * numbers.  A test runs the op on every backend and checks operands it wrote:
 *
 *     RUN_ALL(t, silu_fwd, OP(y), OP(x));
 *     optest_check(&t, "silu_fwd", y, 1);
 */
#ifndef PRX_TESTS_LIB_OPTEST_H
#define PRX_TESTS_LIB_OPTEST_H

#include "train/backend.h"
#include "train/ops.h"

#define OPTEST_BACKENDS 4 /* ref; cpu with 1, 2 and 3 threads */

struct operand {
    struct prx_tensor t[OPTEST_BACKENDS];
};

#define OPTEST_OPERANDS_MAX 32

/* Operands are freed by optest_close(); their number names the next one's numbers. */
struct optest {
    struct prx_backend *be[OPTEST_BACKENDS];
    struct operand operands[OPTEST_OPERANDS_MAX];
    uint64_t n_operands;
};

/* Run an op on backend @i; OP(operand) is its tensor there. */
#define OP(operand) (&(operand)->t[i_be])
#define RUN(optest, i, op, ...)                     \
 do {                                               \
  int i_be = (i);                                   \
  struct prx_backend *be_ = (optest).be[i_be];      \
  optest_must(be_->ops->op(be_, __VA_ARGS__), #op); \
 } while (0)
#define RUN_ALL(optest, op, ...)                        \
 do {                                                   \
  for (int i_all = 0; i_all < OPTEST_BACKENDS; i_all++) \
   RUN(optest, i_all, op, __VA_ARGS__);                 \
 } while (0)

/* A check that fails prints "FAIL what ..." and ends the program. */

/** optest_must - fail, with the recorded message, where @rc is negative. */
void optest_must(int rc, const char *what);

void optest_open(struct optest *test);
void optest_close(struct optest *test);

/** optest_operand - f32, normal numbers; up to four dims, ended by -1. */
struct operand *optest_operand(struct optest *test, int64_t d0, int64_t d1, int64_t d2,
                               int64_t d3);

/** optest_narrow - the same in bf16; checks then allow a unit in the last place. */
struct operand *optest_narrow(struct optest *test, int64_t d0, int64_t d1, int64_t d2,
                              int64_t d3);

/** optest_mask - i32, zeros and ones. */
struct operand *optest_mask(struct optest *test, int64_t d0, int64_t d1);

/** optest_fill - set every element on every backend. */
void optest_fill(struct operand *operand, float value);

/** optest_scale - multiply, and shift, every element on every backend. */
void optest_scale(struct operand *operand, float factor, float shift);

/** optest_check - every backend agrees with ref (near.h). */
void optest_check(const struct optest *test, const char *what,
                  const struct operand *operand, int64_t n_terms);

/** optest_check_sum - the same for a sum that may cancel: its terms have @size. */
void optest_check_sum(const struct optest *test, const char *what,
                      const struct operand *operand, int64_t n_terms, double size);

/** optest_check_exact - cpu's results are the same bits for any number of threads. */
void optest_check_exact(const char *what, const struct operand *operand);

/*
 * Gradients of ref against differences of ref, for the scalar sum(y cotangent):
 * @forward runs the op into @y; each element of @x is moved to and fro, and the
 * slope, by a sixth-order formula over wide steps so that float32 rounding of y
 * hardly shows, is compared with @dx.
 */
struct gradient_test {
    const struct operand *y, *cotangent;
    void (*forward)(void *ctx);
    void *ctx;
};
void optest_check_gradient(const struct gradient_test *gradient, const char *what,
                           const struct operand *x, const struct operand *dx);

/**
 * optest_main - run this program again at each lower instruction-set level, then
 * @run; returns what main() returns.
 */
int optest_main(char **argv, int (*run)(void));

#endif
