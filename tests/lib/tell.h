/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tell.h - what is in a data set, as text that tests compare.
 */
#ifndef PRX_TESTS_LIB_TELL_H
#define PRX_TESTS_LIB_TELL_H

#include "libdata/source.h"
#include "tests/lib/scratch.h"

/**
 * prx_tell_source - all samples of @word, a line each.
 *
 * "key: name=bytes ..." or "key! reason", the path of the scratch folder cut out of
 * it.  The caller frees it.
 */
char *prx_tell_source(struct prx_scratch *scratch, const char *word,
                      const struct prx_source_opts *opts);

/**
 * prx_tell_lmdb - all entries of the environment @path, as liblmdb finds them.
 *
 * A line each: name, bytes, hash.  The caller frees it.
 */
char *prx_tell_lmdb(const char *path);

#endif
