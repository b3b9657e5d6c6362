/* SPDX-License-Identifier: Apache-2.0 */
/* read_source.h - what a source gives, as text to compare. */
#ifndef PRX_TESTS_LIB_READ_SOURCE_H
#define PRX_TESTS_LIB_READ_SOURCE_H

#include "libdata/source.h"
#include "tests/lib/scratch.h"

/**
 * prx_read_source - all samples of @word, a line each, which the caller frees.
 *
 * "key: name=bytes ..." or "key! reason", where the scratch folder's path is cut out
 * of the reason.  Aborts on a failure of the source, and where serials do not count
 * from 0 or a sample that is called good is none.
 */
char *prx_read_source(struct prx_scratch *scratch, const char *word,
                      const struct prx_source_opts *opts);

#endif
