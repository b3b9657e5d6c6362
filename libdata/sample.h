/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample.h - the one thing that travels: a key and its named fields.
 *
 * A sample is what WebDataset calls one: all files that share a key.  The key
 * of a path is its directory plus the base name up to the first dot; the rest,
 * lower-cased, is the field's name ("a/b.long.TXT" -> key "a/b", field
 * "long.txt").  Fields are kept sorted by name, byte by byte, each at most once.
 *
 * A field's bytes are a shared buffer, or not read yet: a source of seekable files
 * (a directory, a plain tar) leaves bytes NULL and says where they are (path,
 * offset_bytes, n_bytes); prx_sample_load() reads them, in any thread.
 *
 * The metadata object (field "json") and the decoded picture are views that
 * stages share: meta is parsed once, changed in place, and written back by
 * prx_sample_finish(); image is what decode leaves for resize and encode.
 *
 * Hot loops reuse one struct: prx_sample_reset() empties it.
 * One thread at a time.
 */
#ifndef PRX_LIBDATA_SAMPLE_H
#define PRX_LIBDATA_SAMPLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_image; /* libdata/image.h */

/* Longest key and longest field name, in bytes without the NUL. */
#define PRX_KEY_BYTES_MAX        4000
#define PRX_FIELD_NAME_BYTES_MAX 200
/* Most fields a source gives a sample. */
#define PRX_FIELDS_MAX 1024

struct prx_field {
    char *name;            /* "jpg", "txt", "latent.npy", owned */
    struct prx_buf *bytes; /* NULL while only path is known */
    char *path;            /* file to read from, owned; NULL when bytes came along */
    uint64_t offset_bytes; /* where in that file the field begins */
    uint64_t n_bytes;      /* its length: of bytes, or as listed */
};

struct prx_sample {
    char *key;       /* owned */
    uint64_t serial; /* number in its source's order, from 0 */
    char *origin;    /* shard or file it came from, for messages, owned */
    /* What the skip list that could hide it stands beside (skip.h), owned; NULL where
     * that is origin.  prx_sample_shard() tells which. */
    char *shard;
    struct prx_field *fields;
    size_t n_fields;
    size_t cap_fields;

    json_t *meta;            /* parsed "json" field, owned; NULL until asked for */
    bool meta_changed;       /* meta must be written back */
    struct prx_image *image; /* decoded picture, owned; NULL when there is none */

    /* Set by whoever finds the sample unusable; it is then counted, reported
     * and passed by, never written.  stage is a static string. */
    const char *reject_stage;
    char *reject_reason; /* owned; NULL while the sample is good */
};

void prx_sample_release(struct prx_sample *sample);
void prx_sample_reset(struct prx_sample *sample);

/** prx_sample_move - @to takes all of @from, which is left empty. */
void prx_sample_move(struct prx_sample *to, struct prx_sample *from);

PRX_MUST_USE int prx_sample_set_key(struct prx_sample *sample, const char *key);
PRX_MUST_USE int prx_sample_set_origin(struct prx_sample *sample, const char *origin);
PRX_MUST_USE int prx_sample_set_shard(struct prx_sample *sample, const char *shard);

/** prx_sample_shard - the shard, folder or list of which it is one; borrowed. */
const char *prx_sample_shard(const struct prx_sample *sample);

/**
 * prx_sample_put - add or replace field @name; takes the reference @bytes.
 *
 * Replacing "json" forgets the parsed meta.
 * Errors: PRX_ENOMEM (@bytes is then given back).
 */
PRX_MUST_USE int prx_sample_put(struct prx_sample *sample, const char *name,
                                struct prx_buf *bytes);

/**
 * prx_sample_put_path - add field @name, @n_bytes at @offset_bytes of @path.
 *
 * Offset 0 means the whole file, which then must still be of that size when it
 * is read.
 */
PRX_MUST_USE int prx_sample_put_path(struct prx_sample *sample, const char *name,
                                     const char *path, uint64_t offset_bytes,
                                     uint64_t n_bytes);

/** prx_sample_find - the field @name, or NULL; valid until fields change. */
struct prx_field *prx_sample_find(const struct prx_sample *sample, const char *name);

/** prx_sample_find_image - the first of jpg jpeg png webp that is there, or NULL. */
struct prx_field *prx_sample_find_image(const struct prx_sample *sample);

void prx_sample_drop(struct prx_sample *sample, const char *name);

/**
 * prx_sample_load - read every field that is only a path.
 *
 * Errors: PRX_EIO, PRX_ENOENT, PRX_ENOMEM, PRX_ECORRUPT (the file is no longer
 * what it was when listed).  Any thread.
 */
PRX_MUST_USE int prx_sample_load(struct prx_sample *sample);

/**
 * prx_sample_meta - the metadata object, parsed from field "json" on first use.
 *
 * An absent field gives an empty object.  *@out is borrowed, valid until the
 * sample is reset; set meta_changed after changing it.
 * Errors: PRX_ECORRUPT (not JSON, or not an object), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_sample_meta(struct prx_sample *sample, json_t **out);

/**
 * prx_sample_finish - write meta back into field "json" if it was changed.
 *
 * Compact, keys in byte order, one newline at the end: the same object gives
 * the same bytes.
 */
PRX_MUST_USE int prx_sample_finish(struct prx_sample *sample);

/**
 * prx_sample_reject - mark the sample unusable, with a reason.
 *
 * The first reason stays.  Never fails: short of memory the reason is shorter.
 * What is not printable in it is escaped as prx_escape() does.
 */
void prx_sample_reject(struct prx_sample *sample, const char *stage,
                       const char *fmt, ...) PRX_PRINTF(3, 4);

/** prx_sample_bytes - bytes held by loaded and still unread fields together. */
uint64_t prx_sample_bytes(const struct prx_sample *sample);

/**
 * prx_key_split - WebDataset's rule: where the key of @path ends.
 *
 * As a regular expression ^((?:.*[/]|)[^.]+)[.]([^/]*)$: the key is the folder and
 * the base name up to its first dot, the field what follows, to be lower-cased.
 * Returns the key's length, or 0 where @path is no part of a sample: its base
 * name has no dot, or begins with one (a hidden file, "._x.jpg"; here the bare
 * expression would give "._x.jpg" to a sample named after the folder).
 */
size_t prx_key_split(const char *path);

/**
 * prx_key_check - PRX_EINVAL for a key no output may carry, saying why.
 *
 * Refused: empty, absolute, a "." or ".." component, empty component, bytes
 * below 0x20 or 0x7f, not UTF-8, longer than PRX_KEY_BYTES_MAX.
 */
PRX_MUST_USE int prx_key_check(const char *key);

/** prx_field_check - the same for the name of a field, which may be empty. */
PRX_MUST_USE int prx_field_check(const char *name);

/** prx_text_is_utf8 - true where all of @text is UTF-8, as RFC 3629 has it. */
bool prx_text_is_utf8(const char *text);

/**
 * prx_escape - @text with all that is not printable UTF-8 written as \xNN.
 *
 * Cut, with three dots behind, where it does not fit.  Returns @out.
 */
const char *prx_escape(const char *text, char *out, size_t n_out_bytes);

/** prx_json_text - a new JSON string; what is not UTF-8 is escaped, NULL is "". */
json_t *prx_json_text(const char *text);

#ifdef __cplusplus
}
#endif
#endif
