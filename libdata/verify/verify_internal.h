/* SPDX-License-Identifier: Apache-2.0 */
/* verify_internal.h - what the parts of prx_verify() know of each other. */
#ifndef PRX_VERIFY_INTERNAL_H
#define PRX_VERIFY_INTERNAL_H

#include "libdata/index.h"
#include "libdata/path.h"
#include "libdata/skip.h"
#include "libdata/stage.h"
#include "libdata/verify.h"

/* A finding that outlives what it was found in. */
struct verify_note {
    const char *check;
    char *file, *key, *what; /* owned; key may be NULL */
};

struct verify_notes {
    struct verify_note *notes;
    size_t n_notes, cap_notes;
};

void prx_verify_notes_release(struct verify_notes *all);

/** prx_verify_note - add a finding; @key may be NULL. */
PRX_MUST_USE int prx_verify_note(struct verify_notes *all, const char *check,
                                 const char *file, const char *key, const char *fmt,
                                 ...) PRX_PRINTF(5, 6);

/** prx_verify_what - @message without a leading "FILE: ". */
const char *prx_verify_what(const char *message, const char *file);

/* One thing to read. */
struct verify_part {
    char *path; /* a shard, a folder, or a word that only a source understands; owned */
    bool is_shard;
    bool is_folder;
    const struct prx_shard *listed; /* as its index has it, or NULL */
    size_t i_set;                   /* n_sets or more: none */

    /* What prx_verify_part() finds. */
    struct verify_notes notes;
    bool is_unreadable; /* its samples are not read */
    bool is_wrong;      /* not as its index has it */
    struct prx_shard found;
    bool is_dali_right; /* the .idx that stands */
    bool is_dali_unfit; /* it can have none */
};

/* An index.json, there or missing, and its parts. */
struct verify_set {
    char *index_path; /* owned */
    bool is_whole;    /* it should list every shard in its folder */
    bool has_index;
    bool is_unfinished; /* a journal stands: nothing is repaired */
    bool is_wrong;
    bool wants_dali; /* one of its shards has an .idx, so all should */
    struct prx_index index;
    size_t i_first_part, n_parts;
};

struct verify_plan {
    struct verify_part *parts;
    size_t n_parts, cap_parts;
    struct verify_set *sets;
    size_t n_sets, cap_sets;
    struct verify_notes notes; /* of indexes */
};

/** prx_verify_plan_add - find out what @word means, and look at its indexes. */
PRX_MUST_USE int prx_verify_plan_add(struct verify_plan *plan, const char *word);
void prx_verify_plan_release(struct verify_plan *plan);

/** prx_verify_part - look at a part from outside; any thread. */
PRX_MUST_USE int prx_verify_part(const struct verify_plan *plan,
                                 struct verify_part *part,
                                 const struct prx_verify_opts *opts);

/** prx_verify_part_dali - write the .idx of @part, which is not unfit. */
PRX_MUST_USE int prx_verify_part_dali(const struct verify_part *part);

/** prx_verify_set_repair - write index and .idx anew where they are wrong. */
PRX_MUST_USE int prx_verify_set_repair(struct verify_plan *plan, size_t i_set,
                                       const struct prx_verify_opts *opts,
                                       uint64_t *n_written);

/** prx_verify_stage - looks at one sample; rejects it with all that is wrong. */
PRX_MUST_USE int prx_verify_stage(const struct prx_verify_opts *opts,
                                  struct prx_stage *out);

/**
 * prx_verify_each_print - call @fn for each part of @sample that encoders made.
 *
 * @fingerprint: of its record in the metadata; NULL where there is none.
 */
int prx_verify_each_print(const struct prx_sample *sample,
                          int (*fn)(void *ctx, const char *part, const json_t *record,
                                    const char *fingerprint),
                          void *ctx);

/* --- all keys --------------------------------------------------------------- */

/* 16 bytes of memory each: 128 MiB. */
#define PRX_VERIFY_KEYS_A_PASS ((uint64_t)1 << 23)

struct verify_keys;

/** prx_verify_keys_new - none yet; @n_keys_a_pass: kept in memory at once. */
PRX_MUST_USE int prx_verify_keys_new(const char *folder, uint64_t n_keys_a_pass,
                                     struct verify_keys **out);
void prx_verify_keys_free(struct verify_keys *keys);

/**
 * prx_verify_keys_add - note @key of @shard.
 *
 * @is_good: readers give it out; else a list cannot tell it from others of its shard.
 */
PRX_MUST_USE int prx_verify_keys_add(struct verify_keys *keys, const char *shard,
                                     const char *key, bool is_good);

/**
 * prx_verify_keys_each - call @fn for each sample whose key was there before.
 *
 * @first_shard: where; may be @shard itself.  < 0 from @fn ends it.
 */
int prx_verify_keys_each(struct verify_keys *keys,
                         int (*fn)(void *ctx, const char *shard, const char *key,
                                   const char *first_shard),
                         void *ctx);

/* --- all fingerprints ------------------------------------------------------- */

struct verify_prints;

PRX_MUST_USE int prx_verify_prints_new(struct verify_prints **out);
void prx_verify_prints_free(struct verify_prints *prints);
PRX_MUST_USE int prx_verify_prints_add(struct verify_prints *prints,
                                       const struct prx_sample *sample);

/** prx_verify_prints_notes - a finding for each part that more than one has made. */
PRX_MUST_USE int prx_verify_prints_notes(const struct verify_prints *prints,
                                         struct verify_notes *notes);
json_t *prx_verify_prints_json(const struct verify_prints *prints);

#endif
