/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.h - is a data set at rest what it claims to be?
 *
 * A word names a source (source.h); a folder that holds shards or an index is the
 * data set in it.  Looked at, in this order:
 *
 *   index.json   readable, agrees with the shards in its folder; no journal stands
 *   each shard   size, hash and number of samples as the index has them; .idx and
 *                skip list agree with the tar
 *   each sample  its tar is whole there; json, pictures and arrays are what they
 *                say, and were made from what stands beside them
 *   the whole    no key twice; no array made by two encoders
 *
 * Samples that a skip list hides are not looked at.
 *
 * Nothing is changed unless a repair is asked for, and shards never are.  What is
 * found does not depend on the number of threads, nor does its order.
 */
#ifndef PRX_LIBDATA_VERIFY_H
#define PRX_LIBDATA_VERIFY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/image.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_finding {
    const char *check; /* "index" "shard" "dali" "skip" "duplicate" "fingerprint", or
                        * the stage that rejects a sample: "read" "load" "verify" */
    const char *file;
    const char *key; /* NULL: it concerns the file */
    const char *what;
};

enum {
    /* An index that is missing or wrong is written from the shards in its folder, in
     * byte order of name, with no plan: it can then be neither resumed nor
     * overwritten.  So is the .idx of each of its shards. */
    PRX_REPAIR_INDEX = 1,
    /* Samples that are found bad are added to skip lists, and rows of samples that
     * are not there are taken out. */
    PRX_REPAIR_SKIP = 2,
};

struct prx_verify_opts {
    bool deep;     /* decode every pixel, look at every number */
    bool no_hash;  /* do not read shards once more for their hash */
    int n_threads; /* 0 = processors online */
    unsigned repairs;
    const char *const *fingerprints; /* "PART=FINGERPRINT": any other is a finding */
    size_t n_fingerprints;
    struct prx_image_limits limits;
    const char *temp_folder; /* for the keys: 16 bytes and the key a sample */
    const char *tool;        /* for an index; or NULL */
    /* Both in the caller's thread.  A failure of either is that of the run. */
    int (*on_finding)(void *ctx, const struct prx_finding *finding);
    /* Now and then, at least each 250 ms; may be NULL. */
    int (*on_tick)(void *ctx, uint64_t n_samples, uint64_t n_bytes);
    void *ctx;
};

struct prx_verify_totals {
    uint64_t n_samples; /* looked at */
    uint64_t n_bytes;
    uint64_t n_hidden; /* by skip lists that stood before */
    uint64_t n_shards;
    uint64_t n_findings;
    uint64_t n_indexes_written;
    uint64_t n_rows_written; /* new ones, of skip lists */
    json_t *fingerprints;    /* {PART: {FINGERPRINT: SAMPLES}}, owned by the caller */
};

/**
 * prx_verify - look at all that @words name, and tell what is wrong.
 *
 * Memory: lists of shards, 128 MiB of keys at most, and what is in flight; for
 * repairs, the rows of skip lists.
 * @totals: filled in also after an error.
 * Errors: PRX_EINVAL (a word or a fingerprint that means nothing; a repair of what is
 *         not at rest), PRX_ENOENT, PRX_EEXIST (a repair of what is being written),
 *         PRX_EIO, PRX_ENOMEM, PRX_ECANCELED, and those of the two callbacks.
 */
PRX_MUST_USE int prx_verify(const char *const *words, size_t n_words,
                            const struct prx_verify_opts *opts,
                            struct prx_verify_totals *totals);

#ifdef __cplusplus
}
#endif
#endif
