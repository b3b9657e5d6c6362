/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdb_internal.h - what the source and the sink of LMDB environments share.
 *
 * An environment is a folder with the file data.mdb, and lock.mdb beside it.  A
 * field is one entry of its main database: under the name "KEY.FIELD" its bytes.
 */
#ifndef PRX_LMDB_INTERNAL_H
#define PRX_LMDB_INTERNAL_H

#include "libdata/err.h"

#define PRX_LMDB_SCHEME "lmdb:"
#define PRX_LMDB_DATA   "data.mdb"
#define PRX_LMDB_LOCK   "lock.mdb"

/* While an environment is being written, the name of an entry that says how many
 * input samples are settled, a uint64_t.  It has no dot: no field is named so. */
#define PRX_LMDB_PROGRESS "__prx__"

/** prx_err_lmdb - record that liblmdb answered @code about @path; a PRX_E... code. */
int prx_err_lmdb(int code, const char *path);

#endif
