/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader_set.h - small sets of encoded samples, each of which tells who it is.
 *
 * Sample i has a latent of 2 channels whose every value is i, a long caption of
 * 3 + i % 5 tokens of value i, and a short one of one token of value i + 0.5.
 * Nothing here fails but by aborting.
 */
#ifndef PRX_TESTS_LIB_LOADER_SET_H
#define PRX_TESTS_LIB_LOADER_SET_H

#include "libdata/loader.h"
#include "tests/lib/scratch.h"

enum {
    SET_CHANNELS = 2,
    SET_WIDTH = 4,  /* of text states */
    SET_N_NULL = 2, /* tokens of the null caption: -1 ..., -2 ... */
};

/* What a sample lacks or has wrong; bits. */
enum {
    SET_NO_LATENT = 1,
    SET_NO_LONG = 2,
    SET_NO_SHORT = 4,
    SET_BAD_LATENT = 8, /* not an npy file */
    SET_NAN_LATENT = 16,
    SET_STALE = 32, /* its latent was made by "old" */
    SET_FOUR_CHANNELS = 64,
    SET_SHORT_LATENT = 128, /* the array is shorter than its header says */
    SET_WIDE_TEXT = 256,
    SET_HAS_STD = 512, /* the latent is [2, C, H, W]: mean and deviation i */
    SET_NAN_TEXT = 1024,
};

struct set_shape {
    int64_t height, width;
};

struct set {
    int n;
    size_t n_shapes;
    const struct set_shape *shapes; /* sample i has shape i modulo n_shapes */
    const unsigned *wrong;          /* [n], or NULL: nothing is */
};

extern const struct set_shape set_shapes[3];

/** prx_set_write - write @set to the destination @word. */
void prx_set_write(const char *word, const struct set *set);

/* A scratch folder with set/ in it, and a loader over that. */
struct set_fixture {
    struct prx_scratch scratch;
    struct prx_loader_opts opts; /* batches of 4, long captions, no dropout */
    struct prx_loader *loader;
};

void set_fixture_write(struct set_fixture *fixture, const struct set *set);

/** set_fixture_open - a new loader with fixture->opts; its return value. */
int set_fixture_open(struct set_fixture *fixture);
void set_fixture_close(struct set_fixture *fixture);

/** prx_set_open - a loader over the source @word. */
int prx_set_open(const char *word, const struct prx_loader_opts *opts,
                 struct prx_loader **out);

#endif
