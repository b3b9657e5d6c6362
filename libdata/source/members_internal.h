/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members_internal.h - one archive being read, member after member: a tar or a zip.
 *
 * What it is, and how it is compressed, its first bytes tell, not its name.  It is
 * believed up to its first fault.  That is PRX_ECORRUPT from prx_members_next() or
 * prx_members_read(), with a message that names shard and byte; then only
 * prx_members_close() is of use.  Any other failure concerns the whole run.
 *
 * A tar that just stops, without the zero blocks that end one, is torn.  Several tars
 * in one file, end to end, are read as one.  A zip is read by its directory, in the
 * order of its members' bytes, so it must be a file.
 *
 * {0} is none.  One thread at a time.
 */
#ifndef PRX_MEMBERS_INTERNAL_H
#define PRX_MEMBERS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"
#include "libdata/source/stream_internal.h"

struct prx_members;

/* All of it is valid until the next call on the shard. */
struct prx_member {
    const char *name;
    const char *fault; /* why it cannot be a field, or NULL */
    uint64_t n_bytes;
    uint64_t begin_bytes; /* where its bytes begin, in a plain tar */
};

/**
 * prx_members_open - read the archive in @stream (taken).
 *
 * @name: for messages; kept, not copied.
 * @n_member_bytes_max: larger members have a fault.
 */
PRX_MUST_USE int prx_members_open(struct prx_stream *stream, const char *name,
                                  uint64_t n_member_bytes_max,
                                  struct prx_members **out);

/** prx_members_next - the next member that is no folder.  Returns 1, 0 (the end), < 0.
 */
PRX_MUST_USE int prx_members_next(struct prx_members *members, struct prx_member *out);

/** prx_members_is_plain - are members' bytes to be found in the file as they are? */
bool prx_members_is_plain(const struct prx_members *members);

/**
 * prx_members_read - the bytes of @member, which prx_members_next() has just given out.
 *
 * Not of a plain shard.  Where only this member is of no use, *@out is NULL and
 * @member->fault says why.
 */
PRX_MUST_USE int prx_members_read(struct prx_members *members,
                                  struct prx_member *member, struct prx_buf **out);

void prx_members_close(struct prx_members *members); /* NULL is fine */

#endif
