/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h - an append-only file of checked lines, and the lock on what it is about.
 *
 * A line is 16 hex digits of its hash, a space, its text (no newline in it) and
 * a newline.  Reading stops at the first line that does not check: the torn end
 * of a killed run.
 *
 * Whoever has the journal open holds the lock (flock(2): the system gives it up
 * when a process dies, so no lock is ever stale, and no process number need be
 * believed).  A second process is refused.
 */
#ifndef PRX_LIBDATA_JOURNAL_H
#define PRX_LIBDATA_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_journal {
    int fd;
    char *path; /* NULL when closed */
};

/** prx_journal_path - add the name of the journal that goes with @index_path. */
PRX_MUST_USE int prx_journal_path(const char *index_path, struct prx_str *out);

/**
 * prx_journal_open - open or create the journal at @path, and lock it.
 *
 * Errors: PRX_EEXIST (another process holds it), PRX_EIO, PRX_ENOENT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_journal_open(struct prx_journal *journal, const char *path);

/**
 * prx_journal_read - call @fn for every good line from the beginning.
 *
 * @text: without hash and newline, valid during the call.
 * @end_bytes: where the line ends in the file.
 * Stops at the first bad line (returns 0) or non-zero return of @fn (returns it).
 */
int prx_journal_read(struct prx_journal *journal,
                     int (*fn)(void *ctx, const char *text, uint64_t end_bytes),
                     void *ctx);

/** prx_journal_cut - forget all behind @n_bytes; lines are added there. */
PRX_MUST_USE int prx_journal_cut(struct prx_journal *journal, uint64_t n_bytes);

/** prx_journal_put - add a line; on disk when it returns, if @is_synced. */
PRX_MUST_USE int prx_journal_put(struct prx_journal *journal, const char *text,
                                 bool is_synced);

/** prx_journal_remove - remove the file, then unlock.  Errors: PRX_EIO: it stays. */
PRX_MUST_USE int prx_journal_remove(struct prx_journal *journal);

/** prx_journal_close - unlock, and remove the file if @is_removed; {0} is fine. */
void prx_journal_close(struct prx_journal *journal, bool is_removed);

#ifdef __cplusplus
}
#endif
#endif
