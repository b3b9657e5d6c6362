/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pass rule: |got - expected| <= atol + rtol |expected| for every element of
 * every expected tensor, with the tensor's own atol; integers exactly, where their
 * row says nothing else.
 */
#include "tests/golden/golden.h"

#include <math.h>
#include <string.h>

struct tolerance {
    double atol;
    double rtol;
};

static int tolerance_of(const struct golden_case *golden,
                        const struct prx_st_tensor *want, struct tolerance *out)
{
    const json_t *row =
        json_object_get(json_object_get(golden->root, "tol"), want->name);
    const json_t *atol = json_object_get(row, "atol");
    const json_t *rtol = json_object_get(row, "rtol");

    if (!json_is_number(atol))
        return prx_err(PRX_ECORRUPT, "case.json: no tolerance for %s", want->name);
    if (!rtol && want->type == PRX_ST_F32)
        rtol = json_object_get(golden->root, "rtol");
    *out = (struct tolerance){json_number_value(atol), json_number_value(rtol)};
    return 0;
}

static double element(const struct prx_st_tensor *tensor, size_t i)
{
    const uint8_t *bytes = tensor->bytes;
    float f;
    int32_t n;

    switch (tensor->type) {
    case PRX_ST_F32:
        memcpy(&f, bytes + 4 * i, 4);
        return f;
    case PRX_ST_I32:
        memcpy(&n, bytes + 4 * i, 4);
        return n;
    default: /* PRX_ST_U8 */
        return bytes[i];
    }
}

static const struct prx_st_tensor *result_of(const struct golden_case *golden,
                                             const char *name)
{
    for (size_t i = 0; i < golden->n_results; i++)
        if (strcmp(golden->results[i].name, name) == 0)
            return &golden->results[i];
    return NULL;
}

static int check_kind(const struct prx_st_tensor *got, const struct prx_st_tensor *want)
{
    if (want->type != PRX_ST_F32 && want->type != PRX_ST_I32 && want->type != PRX_ST_U8)
        return prx_err(PRX_EFORMAT, "%s is of type %s", want->name,
                       prx_st_type_name(want->type));
    bool is_same = got->type == want->type && got->n_dims == want->n_dims;
    for (int i = 0; is_same && i < want->n_dims; i++)
        is_same = got->dims[i] == want->dims[i];
    if (!is_same)
        return prx_err(PRX_ESHAPE, "%s has another shape or type than expected",
                       want->name);
    return 0;
}

/* How much of its tolerance an error uses; a NaN uses all of any. */
static double share(double error, double tolerance)
{
    if (error == 0.0)
        return 0.0;
    double ratio = error / tolerance;
    return isnan(ratio) ? INFINITY : ratio;
}

static int compare_tensor(const struct golden_case *golden, const char *name,
                          struct golden_verdict *worst)
{
    const struct prx_st_tensor *want = prx_st_find(&golden->file, name);
    const struct prx_st_tensor *got = result_of(golden, name);
    struct tolerance tolerance = {0};

    if (!want)
        return prx_err(PRX_ENOENT, "the case lacks %s", name);
    if (!got)
        return prx_err(PRX_ENOENT, "no result %s", name);
    PRX_TRY(check_kind(got, want));
    PRX_TRY(tolerance_of(golden, want, &tolerance));
    size_t n_values = want->n_bytes / prx_st_type_bytes(want->type);
    for (size_t i = 0; i < n_values; i++) {
        double expected = element(want, i);
        double error = fabs(element(got, i) - expected);
        double allowed = tolerance.atol + tolerance.rtol * fabs(expected);
        if (!(error <= allowed))
            worst->is_ok = false;
        if (!worst->tensor ||
            share(error, allowed) > share(worst->error, worst->tolerance)) {
            worst->tensor = want->name;
            worst->error = error;
            worst->tolerance = allowed;
        }
    }
    return 0;
}

int golden_compare(const struct golden_case *golden, struct golden_verdict *out)
{
    const json_t *expect = json_object_get(golden->root, "expect");

    *out = (struct golden_verdict){.is_ok = true};
    if (json_array_size(expect) == 0)
        return prx_err(PRX_ECORRUPT, "case.json: nothing is expected");
    for (size_t i = 0; i < json_array_size(expect); i++) {
        const char *name = json_string_value(json_array_get(expect, i));
        if (!name)
            return prx_err(PRX_ECORRUPT, "case.json: an expected name is no string");
        PRX_TRY(compare_tensor(golden, name, out));
    }
    return 0;
}
