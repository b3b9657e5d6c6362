/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdb_tree_internal.h - the entries of an LMDB file in their order, read warily.
 *
 * liblmdb believes every page number and offset it finds in its map: a damaged file
 * ends the process.  Here pages are read, never mapped, and each is checked before
 * anything in it is used, so damage costs what the damaged page held.  Values are
 * not read; an entry says where its value lies in the file.
 *
 *     prx_lmdb_tree_open()    the file is of the format
 *     prx_lmdb_tree_begin()   at one committed state of it
 *     prx_lmdb_tree_next()    entry by entry
 *
 * The format is that of LMDB 0.9 (data version 1) on this kind of machine, as the
 * structures MDB_meta, MDB_db, MDB_page and MDB_node of its mdb.c define it.
 * One thread at a time.
 */
#ifndef PRX_LMDB_TREE_INTERNAL_H
#define PRX_LMDB_TREE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#define PRX_LMDB_DEPTH_MAX 32 /* liblmdb's own limit */

struct prx_lmdb_entry {
    const char *name; /* no NUL behind it; valid until the next call */
    size_t n_name;
    uint64_t offset_bytes; /* of the value, in the file */
    uint64_t n_bytes;
    bool is_database; /* the value is a database within the environment */
    /* NULL, or what is wrong: with the value or, where name is NULL, with pages, so
     * that entries are missing here.  Valid until the next call. */
    const char *fault;
};

/* A page of the path from the root to where the walk is. */
struct prx_lmdb_level {
    size_t i_next, n_nodes;
};

struct prx_lmdb_tree {
    int fd;     /* -1: not open */
    char *path; /* of the file */
    uint64_t n_file_bytes;
    uint64_t n_pages_max; /* more are not read: they would lead in circles */
    uint32_t n_page_bytes;
    uint64_t txn_id;    /* of the state that is read */
    uint64_t n_entries; /* as that state says */

    uint64_t root; /* page number */
    uint16_t depth;
    bool is_begun; /* root has been visited */
    int i_level;   /* -1: at the end */
    struct prx_lmdb_level levels[PRX_LMDB_DEPTH_MAX];
    uint8_t *pages; /* [depth][n_page_bytes] */
    uint64_t n_pages_read, n_entries_seen;
    struct prx_str last_name; /* of the last entry of the leaf before */
    bool is_torn, was_torn;   /* pages are missing just here; anywhere before */
    char fault[160];
};

/**
 * prx_lmdb_tree_open - open the file @path and check both its heads.
 *
 * Errors: PRX_ENOENT, PRX_EIO, PRX_ENOMEM, PRX_ECORRUPT, PRX_EFORMAT (another
 *         version of the format, or of a machine of another kind).
 */
PRX_MUST_USE int prx_lmdb_tree_open(struct prx_lmdb_tree *tree, const char *path);

/**
 * prx_lmdb_tree_begin - read the state that transaction @txn_id has left.
 *
 * Returns 1, or 0 where the file no longer has a head of that state: a writer has
 * gone on, and a later one should be asked for.
 * Errors: PRX_EIO, PRX_ENOMEM, PRX_ECORRUPT, PRX_EFORMAT (entries are not in byte
 *         order, or several share a name).
 */
PRX_MUST_USE int prx_lmdb_tree_begin(struct prx_lmdb_tree *tree, uint64_t txn_id);

/** prx_lmdb_tree_next - 1: an entry, or a fault; 0: the end; PRX_EIO, PRX_ENOMEM. */
PRX_MUST_USE int prx_lmdb_tree_next(struct prx_lmdb_tree *tree,
                                    struct prx_lmdb_entry *entry);

void prx_lmdb_tree_close(struct prx_lmdb_tree *tree); /* fd -1 is fine */

#endif
