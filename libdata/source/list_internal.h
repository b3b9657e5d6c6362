/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list_internal.h - what a format of lists provides, and what rows become.
 *
 * A list is a file of rows with named columns; one row is one sample.  A format
 * reads rows, list_columns.c finds out what the columns mean, list_row.c makes the
 * sample, and source_list.c walks through the files.
 *
 * A new format is one file and one row in source_list.c.
 */
#ifndef PRX_LIST_INTERNAL_H
#define PRX_LIST_INTERNAL_H

#include "libdata/source/source_internal.h"

/* More than this of a text list is neither a value nor a row. */
#define PRX_LIST_VALUE_BYTES_MAX ((size_t)16 << 20)
#define PRX_LIST_ROW_BYTES_MAX   ((size_t)64 << 20)

/* What the columns of a list, or of a row, mean: names, borrowed; NULL: none does. */
struct prx_list_columns {
    const char *key;
    const char *image;
    const char *caption; /* field "txt", where no caption column was asked for */
};

struct prx_list_row {
    json_t *values;                  /* owned: an object; a null is as good as none */
    struct prx_buf *image;           /* owned: the picture, if it is in the row */
    struct prx_list_columns columns; /* valid until the next row */
    uint64_t place;                  /* the line on which it begins, or its number */
    bool is_untyped;                 /* values are texts that may mean numbers */
};

struct prx_list;

struct prx_list_format {
    const char *const *ends; /* of names, NULL-ended */
    bool is_text;            /* places are lines, counted from 1; else rows from 0 */
    /*
     * Errors, here and of next: PRX_ECORRUPT and PRX_EFORMAT are the file's fault, and
     * the message has not its name; PRX_EINVAL: it has no column that @opts name.
     */
    int (*open)(const char *path, const struct prx_source_opts *opts,
                struct prx_list **out);
    /*
     * The next row into the empty @row.  1, 0 at the end, or PRX_ECORRUPT: the row,
     * whose place is set, or all that was left, is unusable; reading may go on.
     */
    int (*next)(struct prx_list *list, struct prx_list_row *row);
    void (*close)(struct prx_list *list);
};

extern const struct prx_list_format prx_list_csv_format;
extern const struct prx_list_format prx_list_jsonl_format;
extern const struct prx_list_format prx_list_parquet_format;

/** prx_list_columns_find - the meaning of @names, an object whose members count. */
void prx_list_columns_find(struct prx_list_columns *columns,
                           const struct prx_list_opts *opts, const json_t *names);

/** prx_list_columns_check - PRX_EINVAL where @opts name a column not in @names. */
PRX_MUST_USE int prx_list_columns_check(const struct prx_list_opts *opts,
                                        const json_t *names);

/** prx_list_opts_check - PRX_EINVAL where @opts make no sense. */
PRX_MUST_USE int prx_list_opts_check(const struct prx_list_opts *opts);

/** prx_list_opts_plan - add the line that fixes how lists are read to @plan. */
PRX_MUST_USE int prx_list_opts_plan(const struct prx_list_opts *opts,
                                    struct prx_str *plan);

/**
 * prx_list_caption_split - NAME and COLUMN of the option "[NAME=]COLUMN".
 *
 * @n_name: bytes of NAME, 0 where there is none.  Returns COLUMN.
 */
const char *prx_list_caption_split(const char *word, size_t *n_name);

/**
 * prx_list_row_key - the key of @row, new, or NULL: its number is the key.
 *
 * Errors: PRX_ECORRUPT (not a key that an output may carry), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_list_row_key(const struct prx_list_row *row, char **out);

/**
 * prx_list_row_fill - give @sample, which has its key, the fields that @row holds.
 *
 * @row loses values and picture.  @folder: where paths begin, with a slash, or "".
 * What is wrong with the row rejects the sample.  Errors: PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_list_row_fill(struct prx_list_row *row,
                                   const struct prx_source_opts *opts,
                                   const char *folder, struct prx_sample *sample);

void prx_list_row_release(struct prx_list_row *row);

/* A text file as it is read: plain, or in gzip or zstd. */
struct prx_list_text {
    const char *next, *end; /* bytes at hand */
    uint64_t line;          /* of the next byte, from 1; counted by who reads */
    void *archive;          /* private */
    bool is_over;           /* private */
};

/** prx_list_text_open - errors: PRX_EIO, PRX_ENOENT, PRX_ENOMEM, PRX_EFORMAT. */
PRX_MUST_USE int prx_list_text_open(struct prx_list_text *text, const char *path);

/** prx_list_text_more - have bytes at hand: 1, 0 at the end, PRX_ECORRUPT, PRX_EIO. */
PRX_MUST_USE int prx_list_text_more(struct prx_list_text *text);
void prx_list_text_close(struct prx_list_text *text);

#endif
