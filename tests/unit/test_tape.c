/* SPDX-License-Identifier: Apache-2.0 */
/* The tape: gradients of values read many times, by blocks, or not at all. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

#define EPS 1e-6f

/* Parameters for every layer, an input, a target. */
struct net {
    struct prx_backend *be;
    struct prx_param_store store;
    struct prx_param *tokens; // [2, 4, 6] a value that is itself trained
    struct prx_param *square; // [6, 6]
    struct prx_param *bias;   // [6]
    struct prx_param *triple; // [18, 6]
    struct prx_param *twice;  // [12, 6]
    struct prx_param *scale;  // [3]
    struct prx_param *cond;   // [2, 6]
    struct prx_tensor target; // [2, 4, 6]
    struct prx_var *(*build)(struct net *net, struct prx_tape *tape);
};

static void add(struct net *net, const char *name, int n_dims, const int64_t *dims,
                struct prx_param **out)
{
    OK(prx_param_store_add(&net->store, name, n_dims, dims, out));
}

static void net_init(struct net *net, struct prx_backend *be, bool train)
{
    *net = (struct net){.be = be};
    prx_param_store_init(&net->store, be, train);
    add(net, "tokens", 3, (int64_t[]){2, 4, 6}, &net->tokens);
    add(net, "square", 2, (int64_t[]){6, 6}, &net->square);
    add(net, "bias", 1, (int64_t[]){6}, &net->bias);
    add(net, "triple", 2, (int64_t[]){18, 6}, &net->triple);
    add(net, "twice", 2, (int64_t[]){12, 6}, &net->twice);
    add(net, "scale", 1, (int64_t[]){3}, &net->scale);
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

/* --- networks whose values are read in every way -----------------------------------
 */

/* x is read three times: whole by two layers, and as the residual. */
static struct prx_var *build_shared(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *g = prx_nn_linear(tape, x, net->square, net->bias);
    struct prx_var *u = prx_nn_linear(tape, x, net->square, NULL);
    return prx_nn_add(tape, x, prx_nn_gated_gelu(tape, g, u));
}

/* One value on both sides: of a sum, of a product. */
static struct prx_var *build_doubled(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x =
        prx_nn_linear(tape, prx_tape_param(tape, net->tokens), net->square, NULL);
    struct prx_var *y = prx_nn_gated_gelu(tape, x, x);
    y = prx_nn_add(tape, y, y);
    return prx_nn_add(tape, y, prx_nn_silu(tape, prx_nn_silu(tape, x)));
}

/* The second operand of a sum has a reader behind the sum. */
static struct prx_var *build_read_later(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *a = prx_nn_linear(tape, x, net->square, NULL);
    struct prx_var *b = prx_nn_linear(tape, x, net->square, net->bias);
    struct prx_var *sum = prx_nn_add(tape, a, b);
    struct prx_var *later = prx_nn_silu(tape, b);
    return prx_nn_add(tape, sum, later);
}

/* Attention of one joined projection; heads of 3, so no rotation. */
static struct prx_var *build_attention(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *qkv = prx_nn_linear(tape, x, net->triple, NULL);
    struct prx_var *kv = prx_nn_linear(tape, x, net->twice, NULL);
    struct prx_var *q = prx_nn_head_norm_rope(tape, qkv, 0, 6, net->scale, NULL, EPS);
    struct prx_var *k = prx_nn_head_norm_rope(tape, qkv, 6, 6, net->scale, NULL, EPS);
    struct prx_var *kt = prx_nn_head_norm_rope(tape, kv, 0, 6, net->scale, NULL, EPS);
    return prx_nn_attention(tape, q, k, qkv, 12, kt, kv, 6, NULL, 2);
}

/* Queries and keys are one value; the text is missing. */
static struct prx_var *build_self_attention(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *kv = prx_nn_linear(tape, x, net->twice, NULL);
    struct prx_var *q = prx_nn_head_norm_rope(tape, kv, 0, 6, net->scale, NULL, EPS);
    return prx_nn_attention(tape, q, q, kv, 6, NULL, NULL, 0, NULL, 2);
}

/* Two of three blocks have readers: the third one's gradient must be zero. */
static struct prx_var *build_unread_block(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *mod =
        prx_nn_linear(tape, prx_tape_param(tape, net->cond), net->triple, NULL);
    return prx_nn_ln_modulate(tape, x, mod, 2, 0, EPS);
}

static struct prx_var *build_modulated(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *cond = prx_nn_silu(tape, prx_tape_param(tape, net->cond));
    struct prx_var *mod = prx_nn_linear(tape, cond, net->triple, NULL);
    struct prx_var *u = prx_nn_ln_modulate(tape, x, mod, 0, 1, EPS);
    return prx_nn_gate_residual(tape, x, u, mod, 2);
}

/* The branch is the residual itself, which has a third reader besides. */
static struct prx_var *build_gated_self(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x =
        prx_nn_linear(tape, prx_tape_param(tape, net->tokens), net->square, NULL);
    struct prx_var *mod =
        prx_nn_linear(tape, prx_tape_param(tape, net->cond), net->square, NULL);
    struct prx_var *y = prx_nn_gate_residual(tape, x, x, mod, 0);
    return prx_nn_add(tape, y, prx_nn_silu(tape, x));
}

/* Through pictures and back, halves exchanged on the way. */
static struct prx_var *build_moved(struct net *net, struct prx_tape *tape)
{
    struct prx_var *x = prx_tape_param(tape, net->tokens);
    struct prx_var *picture = prx_nn_unpatchify(tape, x, 6, 2, 2, 1);
    struct prx_var *back = prx_nn_patchify(tape, picture, 1);
    struct prx_var *both = prx_nn_concat_tokens(tape, back, x); // [2, 8, 6]
    struct prx_var *y = prx_nn_linear(tape, both, net->square, net->bias);
    struct prx_var *wide = prx_nn_unpatchify(tape, y, 6, 2, 4, 1);
    struct prx_var *folded = prx_nn_patchify(tape, wide, 2); // [2, 2, 24]
    return folded;
}

static struct prx_var *loss_of(void *ctx, struct prx_tape *tape)
{
    struct net *net = ctx;
    struct prx_var *y = net->build(net, tape);
    if (!y)
        return NULL;
    struct prx_tensor target = net->target;
    if (prx_tensor_count(&y->value) == prx_tensor_count(&target))
        return prx_nn_mse(tape, y, &target, NULL);
    /* As its own target: a value the loss is not sensitive to where it is used. */
    struct prx_var *zero = prx_tape_constant(
        tape, PRX_F32, y->value.n_dims, y->value.dims, (const float[2 * 8 * 6]){0});
    return zero ? prx_nn_mse(tape, y, &zero->value, NULL) : NULL;
}

static void gradients_are_slopes(void **state)
{
    static const struct {
        const char *name;
        struct prx_var *(*build)(struct net *net, struct prx_tape *tape);
    } rows[] = {
        {"shared", build_shared},
        {"doubled", build_doubled},
        {"read later", build_read_later},
        {"attention", build_attention},
        {"self attention", build_self_attention},
        {"unread block", build_unread_block},
        {"modulated", build_modulated},
        {"gated self", build_gated_self},
        {"moved", build_moved},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net net;
        const char *name = "";
        double worst = 0.0;
        net_init(&net, *state, true);
        net.build = rows[i].build;
        OK(gradcheck_run(&net.store, loss_of, &net, &worst, &name));
        if (!(worst < 5e-3))
            fail_msg("%s: gradient of %s is off by %g", rows[i].name, name, worst);
        net_release(&net);
    }
}

/* --- wants ---------------------------------------------------------------------------
 */

static void backward_of(struct net *net, struct prx_tape *tape, bool wants_input,
                        struct prx_var **input)
{
    struct prx_var *x = prx_tape_input(tape, &net->tokens->value, wants_input);
    struct prx_var *y = prx_nn_linear(tape, x, net->square, NULL);
    *input = x;
    OK(prx_tape_backward(tape, prx_nn_mse(tape, y, &net->target, NULL), 1.0f));
}

static void inputs_may_ask_for_gradients(void **state)
{
    struct prx_tape *tape = NULL;
    struct prx_var *x = NULL;
    struct net net;

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    backward_of(&net, tape, false, &x);
    assert_null(x->grad.data);
    OK(prx_tape_reset(tape));
    backward_of(&net, tape, true, &x);
    assert_non_null(x->grad.data);
    assert_true(prx_tensor_same_shape(&x->grad, &x->value));
    prx_tape_free(tape);
    net_release(&net);
}

static struct prx_var *build_all(struct net *net, struct prx_tape *tape)
{
    struct prx_var *a = build_attention(net, tape);
    struct prx_var *b = build_modulated(net, tape);
    return prx_nn_add(tape, a, b);
}

/* Frozen parameters get no gradient, and what is behind them still does. */
static void frozen_parameters(void **state)
{
    struct prx_tape *tape = NULL;
    struct net free_net, frozen_net;
    float want[48], got[48];

    net_init(&free_net, *state, true);
    net_init(&frozen_net, *state, false);
    OK(prx_tape_new(*state, &tape));
    free_net.build = frozen_net.build = build_all;
    OK(prx_tape_backward(tape, loss_of(&free_net, tape), 1.0f));
    OK(prx_tensor_get(*state, &free_net.tokens->grad, want));
    OK(prx_tape_reset(tape));

    /* Nothing to train: nothing is noted, and backward has nothing to do. */
    struct prx_var *loss = loss_of(&frozen_net, tape);
    assert_false(loss->needs_grad);
    OK(prx_tape_backward(tape, loss, 1.0f));
    OK(prx_tape_reset(tape));

    OK(prx_tensor_alloc(*state, PRX_F32, 3, (int64_t[]){2, 4, 6},
                        &frozen_net.tokens->grad));
    OK(prx_tensor_zero(*state, &frozen_net.tokens->grad));
    OK(prx_tape_backward(tape, loss_of(&frozen_net, tape), 1.0f));
    OK(prx_tensor_get(*state, &frozen_net.tokens->grad, got));
    assert_memory_equal(want, got, sizeof(want));
    assert_null(frozen_net.scale->grad.data);
    prx_tape_free(tape);
    net_release(&free_net);
    net_release(&frozen_net);
}

static void an_unreached_branch_has_no_gradient(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;
    float grad[18 * 6];

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    struct prx_var *loss =
        prx_nn_mse(tape, build_shared(&net, tape), &net.target, NULL);
    assert_non_null(build_attention(&net, tape));
    OK(prx_tape_backward(tape, loss, 1.0f));
    OK(prx_tensor_get(*state, &net.triple->grad, grad));
    for (size_t i = 0; i < sizeof(grad) / sizeof(grad[0]); i++)
        assert_true(grad[i] == 0.0f);
    prx_tape_free(tape);
    net_release(&net);
}

/* --- failure
 * ---------------------------------------------------------------------------- */

static void the_first_failure_stays(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    struct prx_var *x = prx_tape_param(tape, net.tokens);
    assert_null(prx_nn_linear(tape, x, net.square, net.scale)); /* a bias of 3, not 6 */
    assert_int_equal(prx_tape_error(tape), PRX_ESHAPE);
    char first[PRX_ERR_TEXT_BYTES];
    snprintf(first, sizeof(first), "%s", prx_err_message());
    assert_null(prx_nn_silu(tape, x));
    assert_null(prx_nn_add(tape, NULL, x));
    assert_null(prx_tape_input(tape, &net.target, false));
    assert_true(prx_tape_fails(tape, prx_err(PRX_ENOMEM, "a later failure")));
    assert_false(prx_tape_fails(tape, 0));
    prx_err_clear();
    assert_int_equal(prx_tape_error(tape), PRX_ESHAPE);
    assert_string_equal(prx_err_message(), first);
    assert_int_equal(prx_tape_backward(tape, NULL, 1.0f), PRX_ESHAPE);
    OK(prx_tape_reset(tape));
    OK(prx_tape_error(tape));
    assert_non_null(prx_tape_param(tape, net.tokens));
    prx_tape_free(tape);
    net_release(&net);
}

static void misread_blocks_are_refused(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    struct prx_var *x = prx_tape_param(tape, net.tokens);
    struct prx_var *kv = prx_nn_linear(tape, x, net.twice, NULL);
    assert_non_null(prx_nn_head_norm_rope(tape, kv, 6, 6, net.scale, NULL, EPS));
    OK(prx_tape_error(tape));
    prx_nn_head_norm_rope(tape, kv, 6, 6, net.scale, NULL, EPS);
    assert_int_equal(prx_tape_error(tape), PRX_EINVAL);

    OK(prx_tape_reset(tape));
    x = prx_tape_param(tape, net.tokens);
    kv = prx_nn_linear(tape, x, net.twice, NULL);
    struct prx_var *part = prx_nn_head_norm_rope(tape, kv, 6, 6, net.scale, NULL, EPS);
    assert_non_null(prx_nn_silu(tape, kv));
    struct prx_var *loss = prx_nn_mse(tape, part, &net.target, NULL);
    OK(prx_tape_backward(tape, loss, 1.0f)); /* the whole reader was not reached */

    OK(prx_tape_reset(tape));
    x = prx_tape_param(tape, net.tokens);
    struct prx_var *q = prx_nn_linear(tape, x, net.square, NULL);
    part = prx_nn_head_norm_rope(tape, q, 0, 6, net.scale, NULL, EPS);
    loss = prx_nn_mse(tape, prx_nn_add(tape, part, prx_nn_silu(tape, q)), &net.target,
                      NULL);
    OK(prx_tape_error(tape));
    assert_int_equal(prx_tape_backward(tape, loss, 1.0f), PRX_EINVAL);

    /* Both blocks have readers, but only one of them leads to the loss. */
    OK(prx_tape_reset(tape));
    x = prx_tape_param(tape, net.tokens);
    kv = prx_nn_linear(tape, x, net.twice, NULL);
    part = prx_nn_head_norm_rope(tape, kv, 0, 6, net.scale, NULL, EPS);
    assert_non_null(prx_nn_head_norm_rope(tape, kv, 6, 6, net.scale, NULL, EPS));
    loss = prx_nn_mse(tape, part, &net.target, NULL);
    assert_int_equal(prx_tape_backward(tape, loss, 1.0f), PRX_EINVAL);
    prx_tape_free(tape);
    net_release(&net);
}

static void weight_scales_the_gradient(void **state)
{
    const float weights[2] = {1.0f, -4.0f};
    struct prx_tape *tape = NULL;
    struct net net;
    float grads[2][36];

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    for (int i = 0; i < 2; i++) {
        OK(prx_param_store_zero_grad(&net.store));
        struct prx_var *y = build_shared(&net, tape);
        OK(prx_tape_backward(tape, prx_nn_mse(tape, y, &net.target, NULL), weights[i]));
        OK(prx_tensor_get(*state, &net.square->grad, grads[i]));
        OK(prx_tape_reset(tape));
    }
    for (int i = 0; i < 36; i++)
        assert_true(fabsf(grads[1][i] + 4.0f * grads[0][i]) <=
                    1e-6f * fabsf(grads[1][i]) + 1e-9f);
    prx_tape_free(tape);
    net_release(&net);
}

static void backward_starts_at_one_number(void **state)
{
    struct prx_tape *tape = NULL;
    struct net net;

    net_init(&net, *state, true);
    OK(prx_tape_new(*state, &tape));
    struct prx_var *y = build_shared(&net, tape);
    assert_int_equal(prx_tape_backward(tape, y, 1.0f), PRX_ESHAPE);
    prx_tape_free(tape);
    net_release(&net);
}

/* --- memory
 * ------------------------------------------------------------------------------- */

static size_t peak_of_chain(struct net *net, size_t n_layers)
{
    struct prx_tape *tape = NULL;
    OK(prx_tape_new(net->be, &tape));
    struct prx_var *h = prx_tape_param(tape, net->tokens);
    for (size_t i = 0; i < n_layers; i++)
        h = prx_nn_linear(tape, h, net->square, NULL);
    size_t forward_bytes = prx_arena_peak_bytes(prx_tape_arena(tape));
    OK(prx_tape_backward(tape, prx_nn_mse(tape, h, &net->target, NULL), 1.0f));
    size_t peak_bytes = prx_arena_peak_bytes(prx_tape_arena(tape)) - forward_bytes;
    prx_tape_free(tape);
    return peak_bytes;
}

static void gradients_of_any_depth_share_memory(void **state)
{
    struct net net;
    net_init(&net, *state, true);
    assert_int_equal(peak_of_chain(&net, 2), peak_of_chain(&net, 40));
    net_release(&net);
}

static void parameters_have_one_name_each(void **state)
{
    struct prx_param_store store;
    struct prx_param *param = NULL;

    prx_param_store_init(&store, *state, false);
    OK(prx_param_store_add(&store, "a", 2, (int64_t[]){2, 3}, &param));
    assert_int_equal(prx_param_store_add(&store, "a", 1, (int64_t[]){2}, NULL),
                     PRX_EEXIST);
    for (int i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        OK(prx_param_store_add(&store, name, 1, (int64_t[]){1}, NULL));
    }
    assert_ptr_equal(prx_param_store_find(&store, "a"), param);
    assert_null(prx_param_store_find(&store, "b"));
    assert_int_equal(prx_param_store_count(&store), 206);
    prx_param_store_release(&store);
    prx_param_store_release(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(inputs_may_ask_for_gradients),
        cmocka_unit_test(frozen_parameters),
        cmocka_unit_test(an_unreached_branch_has_no_gradient),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(misread_blocks_are_refused),
        cmocka_unit_test(weight_scales_the_gradient),
        cmocka_unit_test(backward_starts_at_one_number),
        cmocka_unit_test(gradients_of_any_depth_share_memory),
        cmocka_unit_test(parameters_have_one_name_each),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
