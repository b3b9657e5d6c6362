/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - words that mean several files: braces and globs.
 *
 * "a/{000..127}.tar" is spelled out as bash does, whether or not the files are
 * there; "a/[0-9]*.tar" gives the files that are there, in byte order, whatever
 * the locale.
 */
#ifndef PRX_LIBDATA_PATH_H
#define PRX_LIBDATA_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_paths {
    char **paths; /* owned, each on the heap */
    size_t n_paths;
    size_t cap_paths;
};

void prx_paths_release(struct prx_paths *paths);
PRX_MUST_USE int prx_paths_add(struct prx_paths *paths, const char *path);

/**
 * prx_brace_expand - add every spelling of @word to @out, in bash's order.
 *
 * {a,b,c} is a list; {3..9}, {003..9}, {9..3..2} and {a..e} are ranges, padded
 * with zeros to the width of the longer end where either end is; braces nest.
 * What is neither a list nor a range stays as it is.
 * Errors: PRX_EINVAL (more than @n_max spellings, more than 64 pairs of braces),
 *         PRX_ENOMEM.
 */
PRX_MUST_USE int prx_brace_expand(const char *word, size_t n_max,
                                  struct prx_paths *out);

/** prx_glob_is - true if @word holds any of * ? [ */
bool prx_glob_is(const char *word);

/**
 * prx_glob_expand - add the files that match @pattern, in byte order.
 *
 * Errors: PRX_ENOENT (nothing matches), PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_glob_expand(const char *pattern, struct prx_paths *out);

#ifdef __cplusplus
}
#endif
#endif
