/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors, the matcher of contracts, arenas, and opening backends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "train/backend.h"
#include "train/dims.h"
#include "train/ops.h"

static void test_shape(void **state)
{
    static const struct {
        int n_dims;
        int64_t dims[6];
        int want;
        int64_t count;
    } rows[] = {
        {1, {0}, 0, 0},
        {3, {2, 3, 4}, 0, 24},
        {2, {0, INT64_MAX}, PRX_ESHAPE, 0},
        {2, {INT64_MAX, 2}, PRX_ESHAPE, 0},
        {2, {INT64_C(1) << 40, INT64_C(1) << 40}, PRX_ESHAPE, 0},
        {2, {3, -1}, PRX_ESHAPE, 0},
        {0, {0}, PRX_ESHAPE, 0},
        {6, {1, 1, 1, 1, 1, 1}, PRX_ESHAPE, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_tensor t;
        int rc = prx_tensor_shape(PRX_F32, rows[i].n_dims, rows[i].dims, &t);
        assert_int_equal(rc, rows[i].want);
        if (rc == 0)
            assert_int_equal(prx_tensor_count(&t), rows[i].count);
    }
}

static void test_format(void **state)
{
    struct prx_tensor t;
    char text[64], small[6];
    (void)state;
    assert_int_equal(prx_tensor_shape(PRX_BF16, 3, (int64_t[]){2, 64, 192}, &t), 0);
    prx_tensor_format_shape(&t, text, sizeof(text));
    assert_string_equal(text, "[2, 64, 192] bf16");
    prx_tensor_format_shape(&t, small, sizeof(small));
    assert_string_equal(small, "[2, 6");
    assert_int_equal(prx_tensor_bytes(&t), 2 * 64 * 192 * 2);
    assert_int_equal(prx_tensor_rows(&t), 128);
}

static void test_dims(void **state)
{
    struct prx_tensor a, b, flags;
    float memory[64];
    struct prx_dims dims = {0};
    (void)state;
    assert_int_equal(prx_tensor_shape(PRX_F32, 3, (int64_t[]){2, 3, 4}, &a), 0);
    assert_int_equal(prx_tensor_shape(PRX_F32, 2, (int64_t[]){6, 4}, &b), 0);
    assert_int_equal(prx_tensor_shape(PRX_I32, 1, (int64_t[]){4}, &flags), 0);
    a.data = b.data = flags.data = memory;
    assert_int_equal(prx_dims_match(&dims, "a [R X], b [R X], c#? [X]", &a, &b, &flags),
                     0);
    assert_int_equal(prx_dims_get(&dims, "R"), 6);
    assert_int_equal(prx_dims_get(&dims, "X"), 4);
    assert_int_equal(prx_dims_match(&dims, "c#? [Y]", (struct prx_tensor *)NULL), 0);
    assert_int_equal(prx_dims_get(&dims, "Y"), 0);
    assert_int_equal(prx_dims_match(&dims, "a [X R]", &a), PRX_ESHAPE);
    assert_int_equal(prx_dims_match(&dims, "a [2 3 4]", &a), 0);
    assert_int_equal(prx_dims_match(&dims, "a [2 3 5]", &a), PRX_ESHAPE);
    assert_int_equal(prx_dims_match(&dims, "c [X]", &flags), PRX_ESHAPE);
    assert_non_null(strstr(prx_err_message(), "c is [4] i32"));
    assert_int_equal(prx_dims_match(&dims, "c~ [X]", &flags), PRX_ESHAPE);
    assert_int_equal(prx_dims_match(&dims, "b~ [R X]", &b), 0);
    b.dtype = PRX_BF16;
    assert_int_equal(prx_dims_match(&dims, "b~ [R X]", &b), 0);
    assert_int_equal(prx_dims_match(&dims, "b [R X]", &b), PRX_ESHAPE);
    b.dtype = PRX_F32;
    b.data = NULL;
    assert_int_equal(prx_dims_match(&dims, "b [R X]", &b), PRX_ESHAPE);
    assert_non_null(strstr(prx_err_message(), "without memory"));
}

static void test_open(void **state)
{
    struct prx_backend *be = NULL;
    (void)state;
    assert_int_equal(prx_backend_open("gpu-of-dreams", 0, &be), PRX_EINVAL);
    assert_int_equal(prx_backend_open("cpu", -1, &be), PRX_EINVAL);
    static const char *const names[] = {"ref", "cpu", "auto"};
    for (int i = 0; i < 3; i++) {
        struct prx_tensor t;
        float in[3] = {1, 2, 3}, out[3] = {0};
        assert_int_equal(prx_backend_open(names[i], 0, &be), 0);
        assert_true(be->n_threads >= 1);
        assert_int_equal(prx_tensor_alloc(be, PRX_F32, 1, (int64_t[]){3}, &t), 0);
        assert_int_equal((uintptr_t)t.data % 64, 0);
        assert_int_equal(prx_tensor_set(be, &t, in), 0);
        assert_int_equal(prx_tensor_get(be, &t, out), 0);
        assert_int_equal(prx_backend_sync(be), 0);
        assert_memory_equal(in, out, sizeof(in));
        assert_int_equal(prx_tensor_zero(be, &t), 0);
        assert_true(*(float *)t.data == 0.0F);
        prx_tensor_free(be, &t);
        prx_tensor_free(be, &t);
        prx_backend_close(be);
    }
    prx_backend_close(NULL);
}

/* Allocations counted through the backend's own slots. */
struct counted {
    struct prx_backend be;
    struct prx_backend *real;
    int n_allocs;
    int n_live;
};

static int counted_alloc(struct prx_backend *be, size_t n_bytes, void **out)
{
    struct counted *counted = be->impl;
    counted->n_allocs++;
    counted->n_live++;
    return counted->real->alloc(counted->real, n_bytes, out);
}

static void counted_free(struct prx_backend *be, void *memory)
{
    struct counted *counted = be->impl;
    counted->n_live -= memory != NULL;
    counted->real->free(counted->real, memory);
}

/* One step: @n tensors of growing size, each filled and checked at the end. */
static void step(struct prx_arena *arena, int n)
{
    struct prx_tensor t[64];
    for (int i = 0; i < n; i++) {
        int64_t dims[] = {i * 1000, 17};
        assert_int_equal(prx_arena_tensor(arena, PRX_F32, 2, dims, &t[i]), 0);
        if (t[i].data)
            memset(t[i].data, i, prx_tensor_bytes(&t[i]));
    }
    for (int i = 1; i < n; i++) {
        const unsigned char *bytes = t[i].data;
        assert_int_equal((uintptr_t)bytes % 64, 0);
        assert_int_equal(bytes[0], i);
        assert_int_equal(bytes[prx_tensor_bytes(&t[i]) - 1], i);
    }
}

static void test_arena(void **state)
{
    struct counted counted = {0};
    struct prx_arena *arena = NULL;
    void *host = NULL;
    (void)state;
    assert_int_equal(prx_backend_open("ref", 1, &counted.real), 0);
    counted.be = *counted.real;
    counted.be.impl = &counted;
    counted.be.alloc = counted_alloc;
    counted.be.free = counted_free;
    assert_int_equal(prx_arena_new(&counted.be, &arena), 0);
    step(arena, 40);
    size_t peak_bytes = prx_arena_peak_bytes(arena);
    assert_int_equal(prx_arena_reset(arena), 0);
    assert_int_equal(counted.n_live, 1);
    int n_allocs = counted.n_allocs;
    for (int k = 0; k < 3; k++) {
        step(arena, 40);
        assert_int_equal(prx_arena_host(arena, 100, &host), 0);
        assert_int_equal(*(char *)host, 0);
        memset(host, 1, 100);
        assert_int_equal(prx_arena_reset(arena), 0);
    }
    assert_int_equal(counted.n_allocs, n_allocs);
    assert_int_equal(prx_arena_peak_bytes(arena), peak_bytes);

    struct prx_tensor kept, again, first;
    assert_int_equal(prx_arena_tensor(arena, PRX_F32, 1, (int64_t[]){5}, &kept), 0);
    struct prx_arena_mark mark = prx_arena_mark(arena);
    assert_int_equal(prx_arena_tensor(arena, PRX_F32, 1, (int64_t[]){7}, &first), 0);
    step(arena, 60); /* into further chunks */
    prx_arena_rewind(arena, mark);
    assert_int_equal(prx_arena_tensor(arena, PRX_F32, 1, (int64_t[]){7}, &again), 0);
    assert_ptr_equal(again.data, first.data);
    /* What was given back is not counted when the same is taken again. */
    step(arena, 60);
    peak_bytes = prx_arena_peak_bytes(arena);
    for (int k = 0; k < 3; k++) {
        prx_arena_rewind(arena, mark);
        assert_int_equal(prx_arena_tensor(arena, PRX_F32, 1, (int64_t[]){7}, &again),
                         0);
        step(arena, 60);
    }
    assert_int_equal(prx_arena_peak_bytes(arena), peak_bytes);
    prx_arena_free(arena);
    assert_int_equal(counted.n_live, 0);
    prx_backend_close(counted.real);
}

/* A product that takes its time, and what the rate is then found to be. */
static int64_t product_ns;

static int sleep_product(prx_be *be, prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b)
{
    (void)be;
    (void)b;
    assert_true(y->dims[0] == x->dims[0] && x->dims[0] == w->dims[0]);
    if (product_ns < 0)
        return prx_err(PRX_EDEVICE, "the device has gone");
    nanosleep(&(struct timespec){.tv_nsec = product_ns}, NULL);
    return 0;
}

static void test_peak(void **state)
{
    static const struct {
        int n_threads;
        int64_t product_ns;
        double side; /* that is found large enough */
    } rows[] = {
        {1, 2000000, 1024}, /* as a processor's */
        {1, 30000000, 64},  /* too slow for larger ones */
        {2, 30000000, 1024},
    };
    struct counted counted = {0};
    double rate;
    (void)state;

    assert_int_equal(prx_backend_open("ref", 1, &counted.real), 0);
    struct prx_ops ops = *counted.real->ops;
    ops.linear_fwd = sleep_product;
    counted.be = *counted.real;
    counted.be.ops = &ops;
    counted.be.impl = &counted;
    counted.be.alloc = counted_alloc;
    counted.be.free = counted_free;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        counted.be.n_threads = rows[i].n_threads;
        product_ns = rows[i].product_ns;
        assert_int_equal(prx_backend_peak(&counted.be, 0.1, &rate), 0);
        double most = 2 * pow(rows[i].side, 3) / ((double)product_ns * 1e-9);
        assert_true(rate <= most && rate > 0.1 * most);
        assert_int_equal(counted.n_live, 0);
    }
    product_ns = -1;
    assert_int_equal(prx_backend_peak(&counted.be, 0.1, &rate), PRX_EDEVICE);
    assert_int_equal(counted.n_live, 0);
    prx_backend_close(counted.real);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_dims),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
