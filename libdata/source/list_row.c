/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row of a list becomes the fields of a sample.
 *
 * The picture is in the row, or the row says where it is; captions become field
 * "txt" and the object "captions" of the metadata; all other values are metadata.
 *
 * A list may come from strangers.  The paths it names are data: unless the user
 * has allowed more, they stay below one folder, so that no list collects pictures
 * from the rest of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/image.h"
#include "libdata/source/list_internal.h"

#define STAGE "read"

void prx_list_row_release(struct prx_list_row *row)
{
    json_decref(row->values);
    prx_buf_unref(row->image);
    *row = (struct prx_list_row){0};
}

/* The ending of a picture's name, without its dot, or NULL. */
static const char *image_ending(const char *path)
{
    static const char *const endings[] = {"jpg", "jpeg", "png", "webp"};
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(*endings); i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return endings[i];
    return NULL;
}

static json_t *value_of(const struct prx_list_row *row, const char *column)
{
    json_t *value = column ? json_object_get(row->values, column) : NULL;
    return json_is_null(value) ? NULL : value;
}

/* Its value is used up.  The member stays, for names may be borrowed from it. */
static void clear_value(struct prx_list_row *row, const char *column)
{
    if (json_object_get(row->values, column))
        json_object_set_new_nocheck(row->values, column, json_null());
}

/* The text of @value; NULL where it is none that a C string can hold. */
static const char *text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

int prx_list_row_key(const struct prx_list_row *row, char **out)
{
    const json_t *value = value_of(row, row->columns.key);
    struct prx_str key = {0};
    int rc = 0;

    *out = NULL;
    if (!row->columns.key)
        return 0;
    if (json_is_integer(value))
        PRX_GO(prx_str_printf(&key, "%lld", (long long)json_integer_value(value)));
    else if (text_of(value))
        PRX_GO(prx_str_puts(&key, text_of(value)));
    else
        PRX_GO(prx_err(PRX_ECORRUPT, "column %s: no key", row->columns.key));
    /* A file's name is a good key, as soon as its ending is gone. */
    if (image_ending(key.bytes))
        *strrchr(key.bytes, '.') = '\0';
    if (prx_key_check(key.bytes) < 0)
        PRX_GO(prx_err_frame(PRX_ECORRUPT, "column %s", row->columns.key));
    const char *slash = strrchr(key.bytes, '/');
    if (strchr(slash ? slash : key.bytes, '.'))
        PRX_GO(prx_err(PRX_ECORRUPT,
                       "column %s: key \"%s\" has a dot, where readers of files would"
                       " end it",
                       row->columns.key, key.bytes));
    *out = key.bytes;
    key.bytes = NULL;
out:
    prx_str_release(&key);
    return rc;
}

/* --- pictures --------------------------------------------------------------------- */

static int put_image_bytes(struct prx_list_row *row, uint64_t n_bytes_max,
                           struct prx_sample *sample)
{
    struct prx_buf *image = row->image;
    const char *name =
        prx_image_format_name(prx_image_sniff(image->bytes, image->n_bytes));

    if (image->n_bytes > n_bytes_max || !name) {
        prx_sample_reject(sample, STAGE, "column %s: %s", row->columns.image,
                          name ? "larger than the limit"
                               : "not a JPEG, PNG or WebP picture");
        return 0;
    }
    row->image = NULL;
    return prx_sample_put(sample, name, image);
}

/* "https://h/a.jpg", but not "c:/a.jpg". */
static bool is_url(const char *text)
{
    static const char scheme[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+.-";
    size_t n_scheme = strspn(text, scheme);
    return n_scheme > 1 && strncmp(text + n_scheme, "://", 3) == 0;
}

static bool leads_out(const char *path)
{
    if (*path == '/')
        return true;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += part > path;
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return true;
    }
    return false;
}

/* The name of the field that the file at @path becomes; NULL: it is no picture. */
static const char *field_of_file(const char *path)
{
    uint8_t head[16];
    ssize_t n_head = -1;

    if (image_ending(path))
        return image_ending(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        n_head = read(fd, head, sizeof(head));
        close(fd);
    }
    return n_head < 0 ? NULL
                      : prx_image_format_name(prx_image_sniff(head, (size_t)n_head));
}

static int put_image_file(const char *path, uint64_t n_bytes_max,
                          struct prx_sample *sample)
{
    const char *name = NULL, *fault = NULL;
    struct stat st;

    if (stat(path, &st) < 0)
        fault = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        fault = "not a regular file";
    else if ((uint64_t)st.st_size > n_bytes_max)
        fault = "larger than the limit";
    else if (!(name = field_of_file(path)))
        fault = "not a JPEG, PNG or WebP picture";
    if (!fault)
        return prx_sample_put_path(sample, name, path, 0, (uint64_t)st.st_size);
    prx_sample_reject(sample, STAGE, "%s: %s", path, fault);
    return 0;
}

/* Whatever the image column holds, which is none of the metadata then. */
static int put_image_value(struct prx_list_row *row, const json_t *value,
                           const struct prx_source_opts *opts, const char *folder,
                           struct prx_sample *sample)
{
    const uint64_t n_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    const char *text = text_of(value);
    struct prx_str path = {0};
    int rc = 0;

    if (row->image)
        return put_image_bytes(row, n_bytes_max, sample);
    if (!value || json_is_null(value))
        return 0;
    if (!text) {
        prx_sample_reject(sample, STAGE, "column %s: neither a path nor a picture",
                          row->columns.image);
    } else if (is_url(text)) {
        if (!opts->lists.keep_urls)
            prx_sample_reject(sample, STAGE,
                              "%s: the image is a URL; prx-fetch downloads it", text);
        if (json_object_set_new_nocheck(row->values, "url", json_string_nocheck(text)) <
            0)
            rc = prx_err_nomem("a row");
    } else if (!opts->lists.any_path && leads_out(text)) {
        prx_sample_reject(sample, STAGE,
                          "%s: leads out of the folder of pictures; --any-path allows"
                          " it",
                          text);
    } else {
        PRX_GO(prx_str_printf(&path, "%s%s", *text == '/' ? "" : folder, text));
        rc = put_image_file(path.bytes, n_bytes_max, sample);
    }
out:
    prx_str_release(&path);
    return rc;
}

static int put_image(struct prx_list_row *row, const struct prx_source_opts *opts,
                     const char *folder, struct prx_sample *sample)
{
    if (!row->columns.image)
        return 0;
    json_t *value = json_incref(json_object_get(row->values, row->columns.image));
    clear_value(row, row->columns.image);
    int rc = put_image_value(row, value, opts, folder, sample);
    json_decref(value);
    return rc;
}

/* --- captions and metadata -------------------------------------------------------- */

/* The text in @column as field txt, or as member @name of @captions. */
static int put_caption(const struct prx_list_row *row, const char *name,
                       const char *column, json_t *captions, struct prx_sample *sample)
{
    json_t *text = value_of(row, column);
    struct prx_buf *txt;

    if (!text)
        return 0;
    if (!json_is_string(text)) {
        prx_sample_reject(sample, STAGE, "column %s: a caption that is not text",
                          column);
        return 0;
    }
    if (strcmp(name, "txt") != 0)
        return json_object_set(captions, name, text) < 0 ? prx_err_nomem("captions")
                                                         : 0;
    PRX_TRY(prx_buf_dup(json_string_value(text), json_string_length(text), &txt));
    return prx_sample_put(sample, "txt", txt);
}

static int put_caption_word(const struct prx_list_row *row, const char *word,
                            json_t *captions, struct prx_sample *sample)
{
    struct prx_str name = {0};
    size_t n_name;
    const char *column = prx_list_caption_split(word, &n_name);
    int rc = 0;

    PRX_GO(prx_str_add(&name, n_name ? word : "txt", n_name ? n_name : 3));
    PRX_GO(put_caption(row, name.bytes, column, captions, sample));
out:
    prx_str_release(&name);
    return rc;
}

/* What has become a field, or the key, is not said again. */
static void clear_used(struct prx_list_row *row, const struct prx_list_opts *opts)
{
    size_t n_name;

    if (row->columns.key)
        clear_value(row, row->columns.key);
    if (row->columns.caption)
        clear_value(row, row->columns.caption);
    for (size_t i = 0; i < opts->n_caption_columns; i++)
        clear_value(row, prx_list_caption_split(opts->caption_columns[i], &n_name));
}

/* Add @captions to those that the row may have as an object. */
static int join_captions(struct prx_list_row *row, json_t *captions,
                         struct prx_sample *sample)
{
    json_t *there = value_of(row, "captions");
    int failed = 0;

    if (json_object_size(captions) == 0)
        return 0;
    if (!there)
        failed = json_object_set(row->values, "captions", captions);
    else if (json_is_object(there))
        failed = json_object_update(there, captions);
    else
        prx_sample_reject(sample, STAGE, "column captions: not an object of captions");
    return failed ? prx_err_nomem("captions") : 0;
}

static int put_captions(struct prx_list_row *row, const struct prx_list_opts *opts,
                        struct prx_sample *sample)
{
    json_t *captions = json_object();
    int rc = captions ? 0 : prx_err_nomem("captions");

    if (rc < 0)
        goto out;
    if (row->columns.caption)
        PRX_GO(put_caption(row, "txt", row->columns.caption, captions, sample));
    for (size_t i = 0; i < opts->n_caption_columns; i++)
        PRX_GO(put_caption_word(row, opts->caption_columns[i], captions, sample));
    clear_used(row, opts);
    rc = join_captions(row, captions, sample);
out:
    json_decref(captions);
    return rc;
}

/* A number where @value is the text of one, as JSON writes it; else NULL. */
static json_t *number_of(const json_t *value)
{
    const char *text = json_string_value(value);
    size_t n_text = json_string_length(value);
    bool is_like_one = n_text > 0 && strchr("-0123456789", text[0]) &&
                       strchr("0123456789", text[n_text - 1]);

    return is_like_one ? json_loadb(text, n_text, JSON_DECODE_ANY, NULL) : NULL;
}

static int put_meta(struct prx_list_row *row, struct prx_sample *sample)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(row->values, next, name, value)
    {
        json_t *number = row->is_untyped ? number_of(value) : NULL;
        if (number)
            json_object_set_new_nocheck(row->values, name, number);
        else if (json_is_null(value))
            json_object_del(row->values, name);
    }
    if (json_object_size(row->values) == 0)
        return 0;
    sample->meta = row->values;
    sample->meta_changed = true;
    row->values = NULL;
    return prx_sample_finish(sample);
}

int prx_list_row_fill(struct prx_list_row *row, const struct prx_source_opts *opts,
                      const char *folder, struct prx_sample *sample)
{
    PRX_TRY(put_image(row, opts, folder, sample));
    if (!sample->reject_reason)
        PRX_TRY(put_captions(row, &opts->lists, sample));
    return sample->reject_reason ? 0 : put_meta(row, sample);
}
