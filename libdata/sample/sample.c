/* SPDX-License-Identifier: Apache-2.0 */
/* Samples: a key and its sorted fields, read when somebody needs the bytes. */
#include "libdata/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/image.h"

/* The reason when there is no memory for a reason; never freed. */
static char no_reason[] = "no memory for the reason";

static void field_release(struct prx_field *field)
{
    free(field->name);
    free(field->path);
    prx_buf_unref(field->bytes);
}

void prx_sample_reset(struct prx_sample *sample)
{
    for (size_t i = 0; i < sample->n_fields; i++)
        field_release(&sample->fields[i]);
    free(sample->key);
    free(sample->origin);
    free(sample->shard);
    json_decref(sample->meta);
    prx_image_free(sample->image);
    if (sample->reject_reason != no_reason)
        free(sample->reject_reason);
    *sample = (struct prx_sample){
        .fields = sample->fields,
        .cap_fields = sample->cap_fields,
    };
}

void prx_sample_release(struct prx_sample *sample)
{
    if (!sample)
        return;
    prx_sample_reset(sample);
    free(sample->fields);
    *sample = (struct prx_sample){0};
}

void prx_sample_move(struct prx_sample *to, struct prx_sample *from)
{
    prx_sample_release(to);
    *to = *from;
    *from = (struct prx_sample){0};
}

static int set_text(char **text, const char *value)
{
    char *copy;
    PRX_TRY(prx_strdup(value, &copy));
    free(*text);
    *text = copy;
    return 0;
}

int prx_sample_set_key(struct prx_sample *sample, const char *key)
{
    return set_text(&sample->key, key);
}

int prx_sample_set_origin(struct prx_sample *sample, const char *origin)
{
    return set_text(&sample->origin, origin);
}

int prx_sample_set_shard(struct prx_sample *sample, const char *shard)
{
    return set_text(&sample->shard, shard);
}

const char *prx_sample_shard(const struct prx_sample *sample)
{
    return sample->shard ? sample->shard : sample->origin;
}

/* Where @name stands, or would stand. */
static size_t find_place(const struct prx_sample *sample, const char *name,
                         bool *is_there)
{
    size_t low = 0, high = sample->n_fields;

    *is_there = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(sample->fields[mid].name, name);
        if (order == 0) {
            *is_there = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* An empty field @name, in its place; one that was there loses its bytes. */
static int make_field(struct prx_sample *sample, const char *name,
                      struct prx_field **out)
{
    bool is_there;
    size_t i = find_place(sample, name, &is_there);

    if (is_there) {
        struct prx_field *field = &sample->fields[i];
        prx_buf_unref(field->bytes);
        free(field->path);
        *field = (struct prx_field){.name = field->name};
        *out = field;
        return 0;
    }
    if (sample->n_fields == sample->cap_fields) {
        size_t cap = sample->cap_fields ? sample->cap_fields * 2 : 4;
        struct prx_field *grown = realloc(sample->fields, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("the fields of a sample");
        sample->fields = grown;
        sample->cap_fields = cap;
    }
    char *copy;
    PRX_TRY(prx_strdup(name, &copy));
    struct prx_field *field = &sample->fields[i];
    memmove(field + 1, field, (sample->n_fields - i) * sizeof(*field));
    sample->n_fields++;
    *field = (struct prx_field){.name = copy};
    *out = field;
    return 0;
}

/* The bytes of "json" are replaced from outside: the parsed object is stale. */
static void forget_meta(struct prx_sample *sample, const char *name)
{
    if (strcmp(name, "json") != 0)
        return;
    json_decref(sample->meta);
    sample->meta = NULL;
    sample->meta_changed = false;
}

static int put_bytes(struct prx_sample *sample, const char *name, struct prx_buf *bytes)
{
    struct prx_field *field;
    int rc = make_field(sample, name, &field);
    if (rc < 0) {
        prx_buf_unref(bytes);
        return rc;
    }
    field->bytes = bytes;
    field->n_bytes = bytes->n_bytes;
    return 0;
}

int prx_sample_put(struct prx_sample *sample, const char *name, struct prx_buf *bytes)
{
    forget_meta(sample, name);
    return put_bytes(sample, name, bytes);
}

int prx_sample_put_path(struct prx_sample *sample, const char *name, const char *path,
                        uint64_t offset_bytes, uint64_t n_bytes)
{
    struct prx_field *field;
    char *copy;

    forget_meta(sample, name);
    PRX_TRY(prx_strdup(path, &copy));
    int rc = make_field(sample, name, &field);
    if (rc < 0) {
        free(copy);
        return rc;
    }
    field->path = copy;
    field->offset_bytes = offset_bytes;
    field->n_bytes = n_bytes;
    return 0;
}

struct prx_field *prx_sample_find(const struct prx_sample *sample, const char *name)
{
    bool is_there;
    size_t i = find_place(sample, name, &is_there);
    return is_there ? &sample->fields[i] : NULL;
}

struct prx_field *prx_sample_find_image(const struct prx_sample *sample)
{
    static const char *const names[] = {"jpg", "jpeg", "png", "webp"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct prx_field *field = prx_sample_find(sample, names[i]);
        if (field)
            return field;
    }
    return NULL;
}

void prx_sample_drop(struct prx_sample *sample, const char *name)
{
    struct prx_field *field = prx_sample_find(sample, name);
    if (!field)
        return;
    forget_meta(sample, name);
    field_release(field);
    sample->n_fields--;
    size_t i = (size_t)(field - sample->fields);
    memmove(field, field + 1, (sample->n_fields - i) * sizeof(*field));
}

static int read_range(int fd, const struct prx_field *field, uint8_t *bytes)
{
    size_t n_done = 0, n_bytes = (size_t)field->n_bytes;

    while (n_done < n_bytes) {
        off_t at = (off_t)(field->offset_bytes + n_done);
        ssize_t n_got = pread(fd, bytes + n_done, n_bytes - n_done, at);
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", field->path);
        if (n_got == 0)
            return prx_err(PRX_ECORRUPT, "%s: shrinks while it is read", field->path);
        n_done += (size_t)n_got;
    }
    return 0;
}

static int load_field(struct prx_field *field)
{
    struct prx_buf *buf = NULL;
    struct stat st;
    int rc = 0;

    int fd = open(field->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return prx_err_sys("%s", field->path);
    if (fstat(fd, &st) < 0) {
        rc = prx_err_sys("%s", field->path);
        goto out;
    }
    /* A field at offset 0 is a whole file, which may have grown since; a member
     * of a tar always stands behind its header. */
    uint64_t n_file = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    bool is_changed = field->offset_bytes == 0
                          ? n_file != field->n_bytes || !S_ISREG(st.st_mode)
                          : n_file < field->offset_bytes ||
                                n_file - field->offset_bytes < field->n_bytes;
    if (is_changed) {
        rc = prx_err(PRX_ECORRUPT, "%s: changed since it was listed", field->path);
        goto out;
    }
    PRX_GO(prx_buf_new((size_t)field->n_bytes, &buf));
    PRX_GO(read_range(fd, field, buf->bytes));
    field->bytes = buf;
    buf = NULL;
out:
    prx_buf_unref(buf);
    close(fd);
    return rc;
}

int prx_sample_load(struct prx_sample *sample)
{
    for (size_t i = 0; i < sample->n_fields; i++)
        if (!sample->fields[i].bytes)
            PRX_TRY(load_field(&sample->fields[i]));
    return 0;
}

static int parse_meta(const struct prx_field *field, json_t **out)
{
    json_error_t fault;

    *out = NULL;
    if (field->n_bytes == 0)
        return prx_err(PRX_ECORRUPT, "field json: empty");
    *out = json_loadb((const char *)field->bytes->bytes, field->bytes->n_bytes,
                      JSON_ALLOW_NUL, &fault);
    if (!*out && json_error_code(&fault) == json_error_out_of_memory)
        return prx_err_nomem("metadata");
    if (!*out)
        return prx_err(PRX_ECORRUPT, "field json, line %d: %s", fault.line, fault.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return prx_err(PRX_ECORRUPT, "field json: not an object");
    }
    return 0;
}

int prx_sample_meta(struct prx_sample *sample, json_t **out)
{
    if (!sample->meta) {
        struct prx_field *field = prx_sample_find(sample, "json");
        if (field) {
            if (!field->bytes)
                PRX_TRY(load_field(field));
            PRX_TRY(parse_meta(field, &sample->meta));
        } else if (!(sample->meta = json_object())) {
            return prx_err_nomem("metadata");
        }
    }
    *out = sample->meta;
    return 0;
}

int prx_sample_finish(struct prx_sample *sample)
{
    struct prx_buf *buf;

    if (!sample->meta || !sample->meta_changed)
        return 0;
    char *text = json_dumps(sample->meta, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return prx_err_nomem("metadata");
    /* The NUL gives its place to the newline. */
    size_t n_text = strlen(text);
    text[n_text] = '\n';
    PRX_TRY(prx_buf_take((uint8_t *)text, n_text + 1, NULL, &buf));
    PRX_TRY(put_bytes(sample, "json", buf));
    sample->meta_changed = false;
    return 0;
}

void prx_sample_reject(struct prx_sample *sample, const char *stage, const char *fmt,
                       ...)
{
    char text[PRX_ERR_TEXT_BYTES], shown[PRX_ERR_TEXT_BYTES];
    va_list args;

    if (sample->reject_reason)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sample->reject_stage = stage;
    sample->reject_reason = strdup(prx_escape(text, shown, sizeof(shown)));
    if (!sample->reject_reason)
        sample->reject_reason = no_reason;
}

uint64_t prx_sample_bytes(const struct prx_sample *sample)
{
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < sample->n_fields; i++)
        n_bytes += sample->fields[i].n_bytes;
    return n_bytes;
}
