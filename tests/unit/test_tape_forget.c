/* SPDX-License-Identifier: Apache-2.0 */
/* Forgotten and spent values: the same gradients, bit for bit, in less memory. */
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

/* A transformer block in small: B 2, N 5, D 6, two heads, F 7. */
struct net {
    struct prx_backend *be;
    struct prx_param_store store;
    struct prx_param *tokens, *cond, *mod, *qkv, *scale, *out, *gate, *up, *down;
    struct prx_tensor target;
    bool forgets, spends;
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
    add(net, "tokens", 3, (int64_t[]){2, 5, 6}, &net->tokens);
    add(net, "cond", 2, (int64_t[]){2, 6}, &net->cond);
    add(net, "mod", 2, (int64_t[]){36, 6}, &net->mod);
    add(net, "qkv", 2, (int64_t[]){18, 6}, &net->qkv);
    add(net, "norm.scale", 1, (int64_t[]){3}, &net->scale);
    add(net, "out", 2, (int64_t[]){6, 6}, &net->out);
    add(net, "gate", 2, (int64_t[]){7, 6}, &net->gate);
    add(net, "up", 2, (int64_t[]){7, 6}, &net->up);
    add(net, "down", 2, (int64_t[]){6, 7}, &net->down);
    OK(gradcheck_scramble(&net->store, 5, 0.5f));
    OK(prx_tensor_alloc(be, PRX_F32, 3, (int64_t[]){2, 5, 6}, &net->target));
    OK(gradcheck_fill(be, &net->target, 6, 1.0f));
}

static void net_release(struct net *net)
{
    prx_param_store_release(&net->store);
    prx_tensor_free(net->be, &net->target);
}

static void forget(const struct net *net, struct prx_tape *tape, struct prx_var *x)
{
    if (net->forgets)
        prx_tape_forget(tape, x);
}

struct call {
    const struct net *net;
    struct prx_tape *tape;
    struct prx_var *h, *cond;
};

static struct prx_var *run_block(const void *ctx)
{
    const struct call *call = ctx;
    const struct net *net = call->net;
    struct prx_tape *tape = call->tape;

    struct prx_var *mod = prx_nn_linear(tape, call->cond, net->mod, NULL);
    struct prx_var *u = prx_nn_ln_modulate(tape, call->h, mod, 0, 1, EPS);
    struct prx_var *qkv = prx_nn_linear(tape, u, net->qkv, NULL);
    struct prx_var *q = prx_nn_head_norm_rope(tape, qkv, 0, 6, net->scale, NULL, EPS);
    struct prx_var *k = prx_nn_head_norm_rope(tape, qkv, 6, 6, net->scale, NULL, EPS);
    struct prx_var *o =
        prx_nn_attention(tape, q, k, qkv, 12, NULL, NULL, 0, NULL, 2);
    forget(net, tape, q);
    forget(net, tape, k);
    struct prx_var *a = prx_nn_linear(tape, o, net->out, NULL);
    struct prx_var *middle = prx_nn_gate_residual(tape, call->h, a, mod, 2);
    forget(net, tape, u);
    u = prx_nn_ln_modulate(tape, middle, mod, 3, 4, EPS);
    struct prx_var *gate = prx_nn_linear(tape, u, net->gate, NULL);
    struct prx_var *up = prx_nn_linear(tape, u, net->up, NULL);
    struct prx_var *y = prx_nn_gated_gelu(tape, gate, up);
    if (net->spends) {
        prx_var_spend(gate);
        prx_var_spend(up);
    }
    struct prx_var *d = prx_nn_linear(tape, y, net->down, NULL);
    forget(net, tape, y);
    struct prx_var *out = prx_nn_gate_residual(tape, middle, d, mod, 5);
    forget(net, tape, u);
    forget(net, tape, middle);
    return out;
}

static struct prx_var *record(const struct net *net, struct prx_tape *tape,
                              int n_blocks)
{
    struct call call = {net, tape, prx_tape_param(tape, net->tokens), NULL};

    call.cond = prx_nn_silu(tape, prx_tape_param(tape, net->cond));
    for (int i = 0; i < n_blocks; i++)
        call.h = prx_tape_segment(tape, run_block, &call, sizeof(call));
    return prx_nn_mse(tape, call.h, &net->target, NULL);
}

static void forgetting_changes_no_bit(void **state)
{
    float kept[1024], again[1024];
    struct prx_tape *tape = NULL;
    struct net net;

    net_init(&net, *state);
    OK(prx_tape_new(*state, &tape));
    /* Plain, forgetting, spending, recomputing, and all of these together. */
    for (int i = 0; i < 8; i++) {
        net.forgets = i & 1;
        net.spends = i & 4;
        OK(prx_tape_reset(tape));
        OK(prx_param_store_zero_grad(&net.store));
        prx_tape_recompute(tape, i & 2);
        OK(prx_tape_backward(tape, record(&net, tape, 3), 0.7f));
        size_t n_bytes = gradcheck_get(&net.store, i == 0 ? kept : again, 1024);
        if (i > 0)
            assert_memory_equal(again, kept, n_bytes);
    }
    prx_tape_free(tape);
    net_release(&net);
}

static size_t peak_of(struct net *net, bool forgets, bool spends, int n_blocks)
{
    struct prx_tape *tape = NULL;

    net->forgets = forgets;
    net->spends = spends;
    OK(prx_tape_new(net->be, &tape));
    OK(prx_tape_backward(tape, record(net, tape, n_blocks), 1.0f));
    size_t peak_bytes = prx_tape_peak_bytes(tape);
    prx_tape_free(tape);
    return peak_bytes;
}

static void forgotten_memory_is_used_again(void **state)
{
    struct net net;

    net_init(&net, *state);
    /* A block more keeps five tensors less: u, q, k, the middle, u of one size, and
     * y; tensors begin at multiples of 64 bytes. */
    size_t kept = peak_of(&net, false, false, 9) - peak_of(&net, false, false, 8);
    size_t less = peak_of(&net, true, false, 9) - peak_of(&net, true, false, 8);
    assert_int_equal(kept - less, 5 * 256 + 320);
    net_release(&net);
}

/* The gradients of gate and up, that a block's walk would begin with. */
static void spent_memory_is_the_gradients(void **state)
{
    struct net net;

    net_init(&net, *state);
    for (int forgets = 0; forgets < 2; forgets++)
        assert_int_equal(peak_of(&net, forgets, false, 3) -
                             peak_of(&net, forgets, true, 3),
                         2 * 320);
    net_release(&net);
}

static void forgetting_needs_a_tape_that_trains(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;
    float loss[2];

    net_init(&net, *state);
    OK(prx_tape_new(*state, &tape));
    prx_tape_train(tape, false);
    for (int i = 0; i < 2; i++) {
        net.forgets = i;
        struct prx_var *out = record(&net, tape, 2);
        OK(prx_tape_error(tape));
        OK(prx_tensor_get(net.be, &out->value, &loss[i]));
        OK(prx_tape_reset(tape));
    }
    assert_true(loss[0] == loss[1]);
    prx_tape_free(tape);
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forgetting_changes_no_bit),
        cmocka_unit_test(forgotten_memory_is_used_again),
        cmocka_unit_test(spent_memory_is_the_gradients),
        cmocka_unit_test(forgetting_needs_a_tape_that_trains),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
