/* SPDX-License-Identifier: Apache-2.0 */
/* source_text.h - all that a source yields, as text that a test can compare. */
#ifndef PRX_TESTS_LIB_SOURCE_TEXT_H
#define PRX_TESTS_LIB_SOURCE_TEXT_H

#include "libdata/source.h"

/**
 * source_text - every sample of @word, loaded, a line each.
 *
 * "KEY: NAME=BYTES ..." (up to the first NUL), or "KEY! REASON"; then, if it fails,
 * "FAILED CODE: MESSAGE".  What stands before the last @cut in a reason, and @cut, is
 * left out; NULL: nothing.  The caller frees it.
 */
char *source_text(const char *word, const struct prx_source_opts *opts,
                  const char *cut);

#endif
