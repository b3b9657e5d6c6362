/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden.h - what the operations of the golden runner share.
 *
 * A case is a folder with case.json and case.safetensors (GOLDEN.md).  An
 * operation reads config and inputs, computes, and puts results under the names
 * that the case expects; the runner then compares.  Whatever an operation takes
 * from a case (device memory, host arrays) lives until the case is closed.
 */
#ifndef PRX_TESTS_GOLDEN_H
#define PRX_TESTS_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/safetensors.h"
#include "train/backend.h"
#include "train/denoiser.h"
#include "train/objective.h"

struct golden_case {
    const char *dir;
    const char *name; /* the folder's, without its path */
    const char *op;   /* "-" where case.json does not say */
    struct prx_backend *be;
    json_t *root; /* case.json */
    struct prx_st_file file;
    struct prx_st_tensor *results;
    size_t n_results;
    struct prx_tensor *uploads;
    size_t n_uploads;
    void **blocks; /* host memory */
    size_t n_blocks;
};

/* What an operation returns beside 0 and errors: an option that is not built. */
#define GOLDEN_TODO 1

typedef int (*golden_fn)(struct golden_case *golden);

struct golden_op {
    const char *name;
    golden_fn run;
};

/* One table a file, ended by a row without name. */
extern const struct golden_op golden_denoiser_ops[];
extern const struct golden_op golden_train_ops[];
extern const struct golden_op golden_schedule_ops[];
extern const struct golden_op golden_image_ops[];

/* --- a case (golden_case.c) ------------------------------------------------ */

PRX_MUST_USE int golden_case_open(struct golden_case *golden, const char *dir,
                                  struct prx_backend *be);
void golden_case_close(struct golden_case *golden);

/** golden_alloc - zeroed memory of the case. */
PRX_MUST_USE int golden_alloc(struct golden_case *golden, size_t n, size_t n_bytes_each,
                              void *out_pointer);

/* Config values; @key may go down: "model.depth".  A missing key is PRX_ENOENT. */
bool golden_has(const struct golden_case *golden,
                const char *key); /* there, not null */
PRX_MUST_USE int golden_number(const struct golden_case *golden, const char *key,
                               double *out);
PRX_MUST_USE int golden_integer(const struct golden_case *golden, const char *key,
                                int64_t *out);
PRX_MUST_USE int golden_element(const struct golden_case *golden, const char *key,
                                size_t i, double *out);

/** golden_text - the string @key, or "" where it is absent or null. */
const char *golden_text(const struct golden_case *golden, const char *key);

/** golden_input - the tensor "PREFIX.NAME" by printf; PRX_ENOENT where it is absent. */
PRX_MUST_USE int golden_input(const struct golden_case *golden,
                              const struct prx_st_tensor **out, const char *fmt, ...)
    PRX_PRINTF(3, 4);

/** golden_floats - the elements of an F32 input of @n_dims dimensions (0: any). */
PRX_MUST_USE int golden_floats(struct golden_case *golden, const char *name, int n_dims,
                               const struct prx_st_tensor **tensor, const float **out);
PRX_MUST_USE int golden_ints(struct golden_case *golden, const char *name, int n_dims,
                             const struct prx_st_tensor **tensor, const int32_t **out);

/** golden_upload - an F32 or I32 input as a device tensor; data NULL where absent. */
PRX_MUST_USE int golden_upload(struct golden_case *golden, struct prx_tensor *out,
                               const char *fmt, ...) PRX_PRINTF(3, 4);

/** golden_device - an uninitialised device tensor of the case. */
PRX_MUST_USE int golden_device(struct golden_case *golden, enum prx_dtype dtype,
                               int n_dims, const int64_t *dims, struct prx_tensor *out);

/* Results; values are copied. */
PRX_MUST_USE int golden_put(struct golden_case *golden, const char *name,
                            enum prx_st_type type, int n_dims, const int64_t *dims,
                            const void *values);
PRX_MUST_USE int golden_put_numbers(struct golden_case *golden, const char *name,
                                    const double *values, int64_t n);
PRX_MUST_USE int golden_put_device(struct golden_case *golden,
                                   const struct prx_tensor *tensor, const char *fmt,
                                   ...) PRX_PRINTF(3, 4);

/* --- comparing (golden_compare.c) ------------------------------------------- */

/* The element that came closest to its tolerance, or went furthest over it. */
struct golden_verdict {
    const char *tensor;
    double error;
    double tolerance;
    bool is_ok;
};

/** golden_compare - results against expectations; an error is a broken case. */
PRX_MUST_USE int golden_compare(const struct golden_case *golden,
                                struct golden_verdict *out);

/* --- the denoiser of a case (golden_model.c) --------------------------------- */

/** golden_model - the denoiser of config.model, with the case's weights. */
PRX_MUST_USE int golden_model(struct golden_case *golden, bool train,
                              struct prx_denoiser **out);

/** golden_param_name - @param's name in the case's form. */
PRX_MUST_USE int golden_param_name(const struct golden_case *golden,
                                   const struct prx_param *param, char *out,
                                   size_t n_out_bytes);

/** golden_splitmix - u(seed, i) of the generated weights, in [-1, 1). */
double golden_splitmix(uint64_t seed, uint64_t i);

/** golden_is_todo - whether config asks for a loss that is not built. */
bool golden_is_todo(const struct golden_case *golden);

/** golden_prediction - config.prediction_type. */
PRX_MUST_USE int golden_prediction(const struct golden_case *golden,
                                   enum prx_prediction *out);

/** golden_visible - in.visible_idx; absent where the case routes nothing. */
PRX_MUST_USE int golden_visible(struct golden_case *golden, struct prx_tensor *out);

#endif
