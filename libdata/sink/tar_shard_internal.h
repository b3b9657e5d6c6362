/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_shard_internal.h - one tar while it is written.
 *
 *     begin ──put, put …──▶ filled ──commit──▶ stands under its name
 *                             │
 *                             └─give──▶ its last samples begin the next tar
 *
 * Until it is committed a shard has its temporary name, lacks the two zero blocks
 * that end a tar, and can be made shorter.
 */
#ifndef PRX_TAR_SHARD_INTERNAL_H
#define PRX_TAR_SHARD_INTERNAL_H

#include <sys/uio.h>

#include "libdata/hash.h"
#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"

#define PRX_TAR_BLOCK_BYTES 512
#define PRX_TAR_END_BYTES   (2 * PRX_TAR_BLOCK_BYTES)

/* A sample as it stands in a tar: of each field header, bytes and padding.  Its
 * memory is used again for the next one. */
struct prx_tar_blocks {
    struct iovec *parts; /* point into the sample and into headers */
    size_t n_parts, cap_parts;
    uint64_t n_bytes;
    struct prx_str headers, name;
};

void prx_tar_blocks_release(struct prx_tar_blocks *blocks);

/** prx_tar_blocks_set - lay out @sample, which must not change while they are used. */
PRX_MUST_USE int prx_tar_blocks_set(struct prx_tar_blocks *blocks,
                                    const struct prx_sample *sample);

/* Where a sample of a shard is. */
struct prx_tar_place {
    uint64_t at_bytes; /* of its first header */
    uint64_t serial;
    size_t i_member; /* its first */
    size_t i_name;   /* in names: its key, then the name of each field */
};

struct prx_tar_member {
    uint64_t at_bytes; /* of its bytes, behind the header */
    uint64_t n_bytes;
};

struct prx_tar_shard {
    bool is_begun;
    bool is_stdout;
    struct prx_shard entry; /* what the ledger is to be told of it */
    struct prx_str name;    /* entry.name */
    struct prx_outfile file;
    struct prx_hasher *hasher; /* of all bytes so far */
    struct prx_str last_key;

    /* Kept where somebody will ask: for the .idx, or to give samples away. */
    bool is_recorded;
    struct prx_tar_place *places;
    size_t n_places, cap_places;
    struct prx_tar_member *members;
    size_t n_members, cap_members;
    struct prx_str names; /* each with a NUL */
};

PRX_MUST_USE int prx_tar_shard_init(struct prx_tar_shard *shard);
void prx_tar_shard_release(struct prx_tar_shard *shard);

/** prx_tar_shard_begin - open @folder + shard->name, or take standard output. */
PRX_MUST_USE int prx_tar_shard_begin(struct prx_tar_shard *shard, const char *folder);

/** prx_tar_shard_put - add @sample, laid out in @blocks, whose parts are used up. */
PRX_MUST_USE int prx_tar_shard_put(struct prx_tar_shard *shard,
                                   const struct prx_sample *sample,
                                   struct prx_tar_blocks *blocks, bool no_sync);

/**
 * prx_tar_shard_give - keep @n_kept samples; the others go to the head of @next.
 *
 * Both are begun and recorded, and @next is what follows @shard; 1 <= @n_kept <
 * shard->n_places.  Both files, their hashes and entries are then as if the samples
 * had been put so.  After an error neither shard is of use.
 */
PRX_MUST_USE int prx_tar_shard_give(struct prx_tar_shard *shard, size_t n_kept,
                                    struct prx_tar_shard *next);

/**
 * prx_tar_shard_commit - end the tar and name it; entry is then complete.
 *
 * @has_dali: write the .idx first, unless a name in the shard has a space.
 */
PRX_MUST_USE int prx_tar_shard_commit(struct prx_tar_shard *shard, const char *folder,
                                      bool has_dali, bool no_sync);

/** prx_tar_shard_abort - remove what is written of a shard that is begun. */
void prx_tar_shard_abort(struct prx_tar_shard *shard);

#endif
