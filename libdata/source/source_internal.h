/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_internal.h - what a kind of source provides.
 *
 * A new kind is one file and one row in source_word.c.
 */
#ifndef PRX_SOURCE_INTERNAL_H
#define PRX_SOURCE_INTERNAL_H

#include <sys/stat.h>

#include "libdata/path.h"
#include "libdata/source.h"

#define PRX_MEMBER_BYTES_MAX ((uint64_t)1 << 30)

struct prx_source_ops {
    /* As prx_source_next(), but @sample is reset and serial set by the caller. */
    int (*next)(struct prx_source *source, struct prx_sample *sample);
    int (*plan)(const struct prx_source *source, struct prx_str *plan);
    void (*cancel)(struct prx_source *source); /* any thread; may be NULL */
    void (*close)(struct prx_source *source);
    /* As prx_source_has(); @path is resolved, @is_folder what it is. */
    bool (*has)(const struct prx_source *source, const char *path, bool is_folder);
};

/* As prx_source_cut() and prx_source_set_unit(). */
struct prx_source_unit_ops {
    int (*cut)(struct prx_source *source, uint64_t n_unit_samples, uint64_t *n_units);
    int (*set)(struct prx_source *source, uint64_t i_unit);
};

/* The first member of every kind's own struct. */
struct prx_source {
    const struct prx_source_ops *ops;
    const struct prx_source_unit_ops *unit_ops; /* of whole sources, else NULL */

    bool has_stream;   /* some of it can be read only once */
    uint64_t n_total;  /* expected samples, 0 = unknown */
    bool has_total;    /* n_total is known, even where it is 0 */
    uint64_t n_given;  /* samples given out so far */
    uint64_t n_hidden; /* samples passed over so far: they are in a skip list */
};

struct prx_inputs;

/* What words can name, and who reads it. */
struct prx_source_kind {
    /* Is the file or folder at @path of this kind?  NULL: none is. */
    bool (*takes)(const char *path, const struct stat *st);
    /* Add the inputs in the file or folder at @path.  NULL: it is one itself. */
    int (*expand)(struct prx_inputs *inputs, const char *path);
    const char *scheme; /* "lmdb:": words that begin so are of this kind, or NULL */
    /* Add the inputs that @word, with its scheme, means.  NULL without a scheme. */
    int (*add)(struct prx_inputs *inputs, const char *word,
               const struct prx_source_opts *opts);
    /* Inputs are files that stand alone: ranks may share them out whole, and open()
     * takes all that stand next to each other.  Else it takes one. */
    bool is_shard;
    /* @paths: of inputs, in order; copied. */
    int (*open)(const char *const *paths, size_t n_paths,
                const struct prx_source_opts *opts, struct prx_source **out);
};

extern const struct prx_source_kind prx_source_dir_kind;
extern const struct prx_source_kind prx_source_list_kind;
extern const struct prx_source_kind prx_source_lmdb_kind;
extern const struct prx_source_kind prx_source_mds_kind;
extern const struct prx_source_kind prx_source_tar_kind;
extern const struct prx_source_kind prx_source_stream_kind; /* a pipe; "-" */
extern const struct prx_source_kind prx_source_http_kind;
extern const struct prx_source_kind prx_source_https_kind;
extern const struct prx_source_kind prx_source_pipe_kind;

struct prx_stream;

/* One shard of a source, wherever it is. */
struct prx_shard_place {
    char *path;       /* owned; the word that names it */
    uint64_t n_bytes; /* 0 = unknown */
    void *own;        /* its kind's, freed with free(3); or NULL */
};

/* How a source comes to the bytes of shards of one kind. */
struct prx_shard_kind {
    /* When the source is opened: are all of them there?  Fills in the rest of places;
     * NULL: nobody can tell. */
    int (*look)(struct prx_shard_place *places, size_t n_places);
    /* Add the line that fixes what is read. */
    int (*plan)(const struct prx_shard_place *place, struct prx_str *plan);
    /* What messages call it.  Returns @out. */
    const char *(*show)(const char *path, char *out, size_t n_out_bytes);
    int (*open)(const struct prx_shard_place *place, struct prx_stream **out);
    size_t n_ahead; /* so many are opened before their turn */
    bool is_local;  /* paths are of files, which can have skip lists */
};

#define PRX_SHARDS_AHEAD_MAX 3

/** prx_source_shards_open - the samples of the shards at @paths, one after another. */
PRX_MUST_USE int prx_source_shards_open(const struct prx_shard_kind *kind,
                                        const char *const *paths, size_t n_paths,
                                        const struct prx_source_opts *opts,
                                        struct prx_source **out);

/* One thing to read, found in the words. */
struct prx_input {
    const struct prx_source_kind *kind;
    char *path;         /* owned; as the kind's open() wants it */
    uint64_t n_samples; /* 0 = unknown */
};

struct prx_inputs {
    struct prx_input *inputs;
    size_t n_inputs, cap_inputs;
};

void prx_inputs_release(struct prx_inputs *all);
PRX_MUST_USE int prx_inputs_add(struct prx_inputs *all,
                                const struct prx_source_kind *kind, const char *path,
                                uint64_t n_samples);

/** prx_inputs_read - what @words mean; errors as prx_source_open()'s. */
PRX_MUST_USE int prx_inputs_read(struct prx_inputs *all, const char *const *words,
                                 size_t n_words, const struct prx_source_opts *opts);

/** prx_path_ends_with - has @path a name before one of @ends, a NULL-ended list? */
bool prx_path_ends_with(const char *path, const char *const *ends);

struct prx_paths;

/** prx_path_has - as the slot has, for a source that reads the file @input. */
bool prx_path_has(const char *input, const char *path, bool is_folder);

/** prx_path_is_below - true if resolved @path is the folder @root or below it. */
bool prx_path_is_below(const char *path, const char *root);

/** prx_name_is_reserved - WebDataset keeps @name for itself: __x__, or below it. */
bool prx_name_is_reserved(const char *name);

/**
 * prx_sample_add_file - file @path, named @name in its source, joins @sample.
 *
 * The field is the part of @name behind its first @n_key + 1 bytes, lower-cased.
 * Its bytes are @bytes (the reference is taken) or, where that is NULL,
 * @n_bytes at @offset_bytes of @path.  A second file for one field, a name no output
 * may carry, or one field too many rejects the sample.
 */
PRX_MUST_USE int prx_sample_add_file(struct prx_sample *sample, const char *name,
                                     size_t n_key, struct prx_buf *bytes,
                                     const char *path, uint64_t offset_bytes,
                                     uint64_t n_bytes);

/**
 * prx_sample_begin - give the empty @sample the key at the start of @name.
 *
 * A key no output may carry is escaped, and rejects the sample.
 */
PRX_MUST_USE int prx_sample_begin(struct prx_sample *sample, const char *name,
                                  size_t n_key, const char *origin);

#endif
