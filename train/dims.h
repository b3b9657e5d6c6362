/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dims.h - tensors against the letters of an op's contract.
 *
 *     prx_dims_match(&dims, "y [R O], x [R I], w [O I], b? [O]", y, x, w, b);
 *     int64_t n_rows = prx_dims_get(&dims, "R");
 *
 * A name (at most two characters, separated by spaces) takes the size of the first
 * tensor it meets and must have that size wherever it stands again; a number is
 * that size.  A leading R takes all dimensions before the named ones, flattened.
 * "?" after a tensor's name: it may be absent (NULL, or without memory), and binds
 * nothing then.  "#": its dtype is i32.  "~": f32 or bf16.  All others are f32.
 */
#ifndef PRX_TRAIN_DIMS_H
#define PRX_TRAIN_DIMS_H

#include "train/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_DIM_NAMES_MAX 8

struct prx_dims {
    int n_names;
    struct {
        char name[3];
        int64_t n;
    } names[PRX_DIM_NAMES_MAX];
};

/**
 * prx_dims_match - check the tensors that follow, in @contract's order.
 *
 * Each is a const struct prx_tensor *.  Names bound in @dims before the call hold.
 * Errors: PRX_ESHAPE, naming contract, tensor and shape.
 */
PRX_MUST_USE int prx_dims_match(struct prx_dims *dims, const char *contract, ...);

/** prx_dims_get - the size bound to @name; 0 where nothing bound it. */
int64_t prx_dims_get(const struct prx_dims *dims, const char *name);

/** prx_dims_bind - demand @n for @name in matches to come. */
void prx_dims_bind(struct prx_dims *dims, const char *name, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
