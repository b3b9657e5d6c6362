/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - where samples come from: one verb, next.
 *
 * A source is opened from the words a user writes (prx-dataset(5)): a directory; tar
 * shards (plain or compressed; braces and globs; an index.json) and zips, also at http
 * and https URLs; MDS shards (their index.json, or its folder); LMDB environments
 * ("lmdb:PATH", or a folder with data.mdb in it); lists (.jsonl, .csv, .tsv,
 * .parquet); "pipe:CMD" for what a command writes; "-" for a tar on standard input.
 * Several words concatenate in order.  A word that names something that is there is
 * taken literally; otherwise braces are spelled out, then globs are matched.  Pipes
 * and devices are read as tars.
 *
 * Samples in the skip list beside what is read (skip.h) are passed over, as if they
 * were not there.
 *
 * Bad data is not an error of the source.  A member or sample that cannot be
 * used comes out as a sample with reject_reason set, so that every input is
 * accounted for; reading goes on behind it.  A tear (a shard that ends in the
 * middle) is such a reject, naming shard and offset.  Errors are left for what
 * makes the whole source useless: it is not there, or the system fails.
 *
 * One thread at a time.
 */
#ifndef PRX_LIBDATA_SOURCE_H
#define PRX_LIBDATA_SOURCE_H

#include <stdbool.h>

#include "libdata/err.h"
#include "libdata/path.h"
#include "libdata/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_source;

/* How lists are read (prx-dataset(5)).  All zero: as the names of columns tell.
 * Texts are borrowed until the source is closed. */
struct prx_list_opts {
    const char *key_column;
    const char *image_column;           /* "" where rows are to have no picture */
    const char *const *caption_columns; /* each "[NAME=]COLUMN" */
    size_t n_caption_columns;
    const char *image_root; /* where paths begin; NULL: in each list's own folder */
    bool any_path;          /* they may be absolute, and go up by ".." */
    /* An image that is a URL rejects the row; with this it is only metadata, "url",
     * for whoever fetches it. */
    bool keep_urls;
};

struct prx_source_opts {
    /*
     * Part @rank of @world; world 0 and 1 mean all of it.  Whole shards, each
     * world-th, where the input is at least world shard files; else each world-th
     * sample.  Every sample is in one part, whatever the rest of the words.
     */
    int rank;
    int world;
    struct prx_list_opts lists;
    void (*on_notice)(const char *text); /* what a user should know; NULL: nobody */
    /* "pipe:CMD" is run: the user has typed it, no file holds it. */
    bool may_run;
    /* Files and members that are larger, alone or those of one sample together, are
     * rejected; 0 = 1 GiB. */
    uint64_t n_member_bytes_max;
    bool with_hidden; /* skip lists are not looked at */
};

/**
 * prx_source_open - open @words, in order, as one source.
 *
 * Every word is looked at before the first sample: a missing file is an error
 * here, not in the middle.  (Not so a shard that an index at a URL lists.)
 * Errors: PRX_ENOENT, PRX_EINVAL (a word that means nothing), PRX_EIO,
 *         PRX_ENOMEM.
 */
PRX_MUST_USE int prx_source_open(const char *const *words, size_t n_words,
                                 const struct prx_source_opts *opts,
                                 struct prx_source **out);

/**
 * prx_source_spell - add what @word's braces and globs name, one by one, to @out.
 *
 * A word that is something already ("-", a scheme's, what is there) is added as it
 * is.  Each of @out means, to prx_source_open(), its part of @word.
 * Errors: PRX_ENOENT (nothing matches a glob), PRX_EINVAL, PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_source_spell(const char *word, struct prx_paths *out);

/** prx_source_is_shard - does @path end as the names of tar shards do? */
bool prx_source_is_shard(const char *path);

/**
 * prx_source_shuffle - @inner (taken) in an order that only @seed decides.
 *
 * The first sample comes after @inner has been read to its end.  Memory: 16 bytes
 * a sample; disk, in a file without a name below @folder: the names and places of
 * fields, and the bytes of those that cannot be read twice (pipes, compressed tars).
 * Errors: PRX_ENOMEM (@inner is then closed); later, as @inner's and PRX_EIO.
 */
PRX_MUST_USE int prx_source_shuffle(struct prx_source *inner, uint64_t seed,
                                    const char *folder, struct prx_source **out);

/**
 * prx_source_next - the next sample into @sample, which is reset first.
 *
 * Returns 1 (a sample, perhaps one with reject_reason), 0 (the end), < 0.
 * Samples are numbered from 0 in sample->serial, rejected ones too.
 * Fields of a folder, a plain tar or an LMDB are not read yet: prx_sample_load()
 * does, in the thread that works on the sample, while the source is open.
 * Errors: PRX_EIO, PRX_ENOMEM, PRX_ECANCELED, PRX_ENOENT (a shard has gone),
 *         PRX_EINVAL (a list has no column that the options name).
 */
PRX_MUST_USE int prx_source_next(struct prx_source *source, struct prx_sample *sample);

/**
 * prx_source_cut - cut what is read into units of work: @n_units of them.
 *
 * A unit is one shard file, or @n_unit_samples (> 0) samples, in their order, of
 * anything else; the last of a folder or list has what is left.  So the samples of a
 * unit depend on the words and @n_unit_samples alone.  To be called before the first
 * prx_source_next(), for a source that is not one rank's part.
 * Errors: PRX_EINVAL (there is a pipe among the inputs: it is read only once),
 *         PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_source_cut(struct prx_source *source, uint64_t n_unit_samples,
                                uint64_t *n_units);

/**
 * prx_source_set_unit - go to the beginning of unit @i_unit.
 *
 * From here prx_source_next() gives its samples, with serials from 0, and then ends;
 * prx_source_hidden() counts what is passed over in it.  Any order of units will do;
 * going back in a folder or list opens it again.
 * Errors: as prx_source_open(); PRX_ECORRUPT (it is no longer what it was).  The
 * source can then only be closed.
 */
PRX_MUST_USE int prx_source_set_unit(struct prx_source *source, uint64_t i_unit);

/**
 * prx_source_plan - add to @plan the text that fixes what this source yields.
 *
 * One line a shard, its path and size in bytes; one a folder, with the number of
 * its files and a hash of their names and sizes; one a list, with its size and, of
 * text, its hash; one an LMDB, with the number of its entries and of the transaction
 * that wrote the last; one a skip list, with its hash; one for the part, if it is not
 * all.  Of standard input nothing is known but its name.
 * Resuming compares the hash of this text.
 */
PRX_MUST_USE int prx_source_plan(const struct prx_source *source, struct prx_str *plan);

/** prx_source_total - expected number of samples, or 0 where nobody knows. */
uint64_t prx_source_total(const struct prx_source *source);

/**
 * prx_source_hidden - how many samples have been passed over up to now.
 *
 * They are in a skip list (skip.h), have no serial and count nowhere else.
 */
uint64_t prx_source_hidden(const struct prx_source *source);

/**
 * prx_source_has - true if writing to @path could change what @source reads.
 *
 * @path: a file: is it one of the shards?  A folder: does it lie in a folder that is
 *        read, or hold one, or a shard?  What is not there yet is nothing.
 */
bool prx_source_has(const struct prx_source *source, const char *path);

/**
 * prx_source_cancel - make a read that waits give up; from any thread.
 *
 * prx_source_next() then fails with PRX_ECANCELED.
 */
void prx_source_cancel(struct prx_source *source);

void prx_source_close(struct prx_source *source); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
