/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.h - a folder of a test's own, and tars made byte by byte.
 *
 * Nothing here fails but by aborting: a test without its fixture proves nothing.
 */
#ifndef PRX_TESTS_LIB_SCRATCH_H
#define PRX_TESTS_LIB_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/hash.h"

#define PRX_SCRATCH_PATHS 8

struct prx_scratch {
    char *root;
    char *paths[PRX_SCRATCH_PATHS]; /* handed out lately */
    unsigned i_path;
};

/** prx_scratch_open - a new, empty folder below TMPDIR or /tmp. */
void prx_scratch_open(struct prx_scratch *scratch);

/** prx_scratch_close - remove it and all below. */
void prx_scratch_close(struct prx_scratch *scratch);

/** prx_scratch_path - the path of @name in it; valid for PRX_SCRATCH_PATHS calls. */
const char *prx_scratch_path(struct prx_scratch *scratch, const char *name);

/** prx_scratch_put - write a file there, and the folders above it. */
const char *prx_scratch_put(struct prx_scratch *scratch, const char *name,
                            const void *bytes, size_t n_bytes);

/** prx_scratch_puts - the same from text. */
const char *prx_scratch_puts(struct prx_scratch *scratch, const char *name,
                             const char *text);

/** prx_scratch_remove - the tree at @path, if it is there. */
void prx_scratch_remove(const char *path);

/**
 * prx_scratch_list - every file below @path with its bytes' hash, a line each, sorted.
 *
 * The caller frees it.  Equal lists mean equal trees.
 */
char *prx_scratch_list(const char *path);

/** prx_scratch_names - the names alone, a space behind each; the caller frees it. */
char *prx_scratch_names(const char *path);

/* What a member's header says; what is 0 or NULL is left to a good default. */
struct prx_tar_lie {
    char typeflag; /* '0' */
    const char *linkname;
    const char *size_text; /* 12 bytes at most, for the field as it stands */
    int size_bytes;        /* with size_text: of it, as it may hold NUL */
    int is_checksum_wrong;
    int patch_at; /* bytes put over the header, before its checksum is made */
    const char *patch;
    int patch_bytes;
};

/** prx_tar_add - append a header that tells @lie, then @bytes, padded. */
void prx_tar_add(struct prx_str *tar, const char *name, const void *bytes,
                 size_t n_bytes, const struct prx_tar_lie *lie);

/** prx_tar_end - append the two zero blocks. */
void prx_tar_end(struct prx_str *tar);

#endif
