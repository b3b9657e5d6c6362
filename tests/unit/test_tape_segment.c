/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of the tape: what is run twice has the same gradient in less memory. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

#define EPS 1e-6f

struct net {
    struct prx_backend *be;
    struct prx_param_store store;
    struct prx_param *tokens; // [2, 4, 6]
    struct prx_param *square; // [6, 6]
    struct prx_param *triple; // [18, 6]
    struct prx_param *cond;   // [2, 6]
    struct prx_tensor target; // [2, 4, 6]
};

static void add(struct net *net, const char *name, int n_dims, const int64_t *dims,
                struct prx_param **out)
{
    OK(prx_param_store_add(&net->store, name, n_dims, dims, out));
}

static void net_init(struct net *net, struct prx_backend *be)
{
    *net = (struct net){.be = be};
    prx_param_store_init(&net->store, be, true);
    add(net, "tokens", 3, (int64_t[]){2, 4, 6}, &net->tokens);
    add(net, "square", 2, (int64_t[]){6, 6}, &net->square);
    add(net, "triple", 2, (int64_t[]){18, 6}, &net->triple);
    add(net, "cond", 2, (int64_t[]){2, 6}, &net->cond);
    OK(gradcheck_scramble(&net->store, 5, 0.5f));
    OK(prx_tensor_alloc(be, PRX_F32, 3, (int64_t[]){2, 4, 6}, &net->target));
    OK(gradcheck_fill(be, &net->target, 6, 1.0f));
}

static void net_release(struct net *net)
{
    prx_param_store_release(&net->store);
    prx_tensor_free(net->be, &net->target);
}

struct call {
    struct net *net;
    struct prx_tape *tape;
    struct prx_var *h;
    struct prx_var *cond;
    int *n_runs;
    int i_failing; /* the run that fails; 0: none does */
};

/* A block: everything it reads but parameters comes from outside. */
static struct prx_var *run_layer(const void *ctx)
{
    const struct call *call = ctx;
    struct prx_tape *tape = call->tape;

    if (++*call->n_runs == call->i_failing) {
        prx_tape_fails(tape, prx_err(PRX_EDEVICE, "run %d", *call->n_runs));
        return NULL;
    }
    struct prx_var *mod = prx_nn_linear(tape, call->cond, call->net->triple, NULL);
    struct prx_var *u = prx_nn_ln_modulate(tape, call->h, mod, 0, 1, EPS);
    return prx_nn_gate_residual(tape, call->h, u, mod, 2);
}

/* Two of three column blocks are read, and what is read is read again. */
static struct prx_var *run_doubled(const void *ctx)
{
    const struct call *call = ctx;
    struct prx_tape *tape = call->tape;

    struct prx_var *mod = prx_nn_linear(tape, call->cond, call->net->triple, NULL);
    struct prx_var *y = prx_nn_ln_modulate(tape, call->h, mod, 2, 0, EPS);
    y = prx_nn_gated_gelu(tape, y, y);
    return prx_nn_add(tape, prx_nn_add(tape, y, y), prx_nn_silu(tape, call->h));
}

/* Reads parameters alone; of what is before it nothing is reached. */
static struct prx_var *run_params(const void *ctx)
{
    const struct call *call = ctx;
    struct prx_var *x = prx_tape_param(call->tape, call->net->tokens);
    return prx_nn_linear(call->tape, x, call->net->square, NULL);
}

static struct prx_var *run_nothing(const void *ctx)
{
    return ((const struct call *)ctx)->h;
}

static struct prx_var *run_two_layers(const void *ctx)
{
    struct call call = *(const struct call *)ctx;
    call.h = prx_tape_segment(call.tape, run_layer, &call, sizeof(call));
    return prx_tape_segment(call.tape, run_layer, &call, sizeof(call));
}

/* The loss of @n_layers calls of @run, one behind the other. */
static struct prx_var *chain(struct net *net, struct prx_tape *tape, prx_segment_fn run,
                             int n_layers, int *n_runs, int i_failing)
{
    struct call call = {net, tape, NULL, NULL, n_runs, i_failing};
    *n_runs = 0;
    call.cond = prx_nn_silu(tape, prx_tape_param(tape, net->cond));
    call.h = prx_nn_linear(tape, prx_tape_param(tape, net->tokens), net->square, NULL);
    for (int i = 0; i < n_layers; i++)
        call.h = prx_tape_segment(tape, run, &call, sizeof(call));
    return prx_nn_mse(tape, call.h, &net->target, NULL);
}

static void segments_change_no_bit(void **state)
{
    static const struct {
        const char *name;
        prx_segment_fn run;
    } rows[] = {
        {"layer", run_layer},
        {"doubled", run_doubled},
        {"params", run_params},
        {"nothing", run_nothing},
        {"two layers", run_two_layers},
    };
    float plain[1024], again[1024];
    struct prx_tape *tape = NULL;
    struct net net;
    int n_runs;

    net_init(&net, *state);
    OK(prx_tape_new(*state, &tape));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n_bytes = 0;
        for (int j = 0; j < 2; j++) {
            OK(prx_tape_reset(tape));
            OK(prx_param_store_zero_grad(&net.store));
            prx_tape_recompute(tape, j == 1);
            struct prx_var *loss = chain(&net, tape, rows[i].run, 3, &n_runs, 0);
            OK(prx_tape_error(tape));
            OK(prx_tape_backward(tape, loss, 0.7f));
            n_bytes = gradcheck_get(&net.store, j == 0 ? plain : again, 1024);
        }
        if (memcmp(plain, again, n_bytes) != 0)
            fail_msg("%s: another gradient as a segment", rows[i].name);
    }
    prx_tape_free(tape);
    net_release(&net);
}

static size_t peak_of_segments(struct net *net, int n_layers, bool recompute)
{
    struct prx_tape *tape = NULL;
    int n_runs;

    OK(prx_tape_new(net->be, &tape));
    prx_tape_recompute(tape, recompute);
    struct prx_var *loss = chain(net, tape, run_layer, n_layers, &n_runs, 0);
    OK(prx_tape_backward(tape, loss, 1.0f));
    assert_int_equal(n_runs, recompute ? 2 * n_layers : n_layers);
    size_t peak_bytes = prx_tape_peak_bytes(tape);
    prx_tape_free(tape);
    return peak_bytes;
}

static void a_segment_keeps_its_result_only(void **state)
{
    const size_t h_bytes = 2 * 4 * 6 * sizeof(float);
    struct net net;

    net_init(&net, *state);
    size_t few_bytes = peak_of_segments(&net, 2, true);
    assert_int_equal(peak_of_segments(&net, 40, true), few_bytes + 38 * h_bytes);
    assert_true(peak_of_segments(&net, 40, false) > few_bytes + 38 * 3 * h_bytes);
    net_release(&net);
}

static void a_segment_may_fail_in_either_run(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;
    int n_runs;

    net_init(&net, *state);
    OK(prx_tape_new(*state, &tape));
    prx_tape_recompute(tape, true);
    assert_null(chain(&net, tape, run_layer, 3, &n_runs, 2));
    assert_int_equal(prx_tape_error(tape), PRX_EDEVICE);
    OK(prx_tape_reset(tape));
    struct prx_var *loss = chain(&net, tape, run_layer, 3, &n_runs, 5);
    assert_int_equal(prx_tape_backward(tape, loss, 1.0f), PRX_EDEVICE);
    assert_string_equal(prx_err_message(), "run 5");
    OK(prx_tape_reset(tape));
    loss = chain(&net, tape, run_layer, 3, &n_runs, 0);
    OK(prx_tape_backward(tape, loss, 1.0f));
    assert_int_equal(n_runs, 6);
    prx_tape_free(tape);
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_change_no_bit),
        cmocka_unit_test(a_segment_keeps_its_result_only),
        cmocka_unit_test(a_segment_may_fail_in_either_run),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
