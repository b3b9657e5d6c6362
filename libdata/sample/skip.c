/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of hidden samples, read, searched and written. */
#include "libdata/skip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/hash.h"
#include "libdata/outfile.h"
#include "libdata/sample.h"

#define N_SKIP_BYTES_MAX ((uint64_t)1 << 32)

const char *prx_skip_key(const struct prx_skip *skip, size_t i)
{
    return skip->text.bytes + skip->rows[i].key_place;
}

const char *prx_skip_reason(const struct prx_skip *skip, size_t i)
{
    return skip->text.bytes + skip->rows[i].reason_place;
}

void prx_skip_release(struct prx_skip *skip)
{
    prx_str_release(&skip->text);
    free(skip->rows);
    *skip = (struct prx_skip){0};
}

int prx_skip_path(const char *shard_path, struct prx_str *out)
{
    size_t n = strlen(shard_path);

    while (n > 1 && shard_path[n - 1] == '/')
        n--;
    PRX_TRY(prx_str_add(out, shard_path, n));
    return prx_str_puts(out, ".skip");
}

static int add_row(struct prx_skip *skip, const char *key, size_t n_key,
                   const char *reason, size_t n_reason)
{
    if (skip->n_rows == skip->cap_rows) {
        size_t cap = skip->cap_rows ? skip->cap_rows * 2 : 64;
        struct prx_skip_row *grown = realloc(skip->rows, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a skip list");
        skip->rows = grown;
        skip->cap_rows = cap;
    }
    size_t key_place = skip->text.n_bytes;
    PRX_TRY(prx_str_add(&skip->text, key, n_key));
    PRX_TRY(prx_str_add(&skip->text, "", 1));
    size_t reason_place = skip->text.n_bytes;
    PRX_TRY(prx_str_add(&skip->text, reason, n_reason));
    PRX_TRY(prx_str_add(&skip->text, "", 1));
    for (char *p = skip->text.bytes + reason_place; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    skip->rows[skip->n_rows++] = (struct prx_skip_row){key_place, reason_place};
    return 0;
}

int prx_skip_add(struct prx_skip *skip, const char *key, const char *reason)
{
    PRX_TRY(prx_key_check(key));
    return add_row(skip, key, strlen(key), reason, strlen(reason));
}

/* One line, without its newline; @i is its number, from 0. */
static int parse_line(struct prx_skip *skip, const char *line, size_t n_line, size_t i)
{
    const char *tab = memchr(line, '\t', n_line);

    if (!tab || memchr(line, '\0', n_line))
        return prx_err(PRX_ECORRUPT, "line %zu: not KEY, a tab, REASON", i + 1);
    size_t n_key = (size_t)(tab - line);
    PRX_TRY(add_row(skip, line, n_key, tab + 1, n_line - n_key - 1));
    if (prx_key_check(prx_skip_key(skip, i)) < 0)
        return prx_err(PRX_ECORRUPT, "line %zu: %s", i + 1, prx_err_message());
    if (i > 0 && strcmp(prx_skip_key(skip, i - 1), prx_skip_key(skip, i)) >= 0)
        return prx_err(PRX_ECORRUPT, "line %zu: keys are not in byte order", i + 1);
    return 0;
}

static int parse(struct prx_skip *skip, const struct prx_buf *bytes)
{
    const char *at = (const char *)bytes->bytes, *end = at + bytes->n_bytes;

    for (size_t i = 0; at < end; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline)
            return prx_err(PRX_ECORRUPT, "line %zu: cut off", i + 1);
        PRX_TRY(parse_line(skip, at, (size_t)(newline - at), i));
        at = newline + 1;
    }
    return 0;
}

/* The bytes of the list of @shard_path; NULL where there is none. */
static int read_list(const char *shard_path, struct prx_str *path, struct prx_buf **out)
{
    *out = NULL;
    PRX_TRY(prx_skip_path(shard_path, path));
    int rc = prx_file_get(path->bytes, N_SKIP_BYTES_MAX, out);
    if (rc == PRX_ENOENT) {
        prx_err_clear();
        return 0;
    }
    return rc;
}

int prx_skip_read(struct prx_skip *skip, const char *shard_path)
{
    struct prx_str path = {0};
    struct prx_buf *bytes = NULL;
    int rc = 0;

    PRX_GO(read_list(shard_path, &path, &bytes));
    if (bytes && (rc = parse(skip, bytes)) < 0)
        prx_err_frame(rc, "%s", path.bytes);
out:
    prx_buf_unref(bytes);
    prx_str_release(&path);
    if (rc < 0)
        prx_skip_release(skip);
    return rc;
}

size_t prx_skip_find_row(const struct prx_skip *skip, const char *key)
{
    size_t i_low = 0, i_high = skip->n_rows;

    while (i_low < i_high) {
        size_t i = i_low + (i_high - i_low) / 2;
        int order = strcmp(prx_skip_key(skip, i), key);
        if (order == 0)
            return i;
        if (order < 0)
            i_low = i + 1;
        else
            i_high = i;
    }
    return skip->n_rows;
}

const char *prx_skip_find(const struct prx_skip *skip, const char *key)
{
    size_t i = prx_skip_find_row(skip, key);

    return i < skip->n_rows ? prx_skip_reason(skip, i) : NULL;
}

/* qsort(3) hands no context along, and rows are places: sort pointers to keys. */
struct keyed {
    const char *key;
    struct prx_skip_row row;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    if (order == 0)
        order = x->row.key_place < y->row.key_place ? -1 : 1;
    return order;
}

int prx_skip_sort(struct prx_skip *skip)
{
    size_t n_kept = 0;

    if (skip->n_rows < 2)
        return 0;
    struct keyed *keyed = calloc(skip->n_rows, sizeof(*keyed));
    if (!keyed)
        return prx_err_nomem("a skip list");
    for (size_t i = 0; i < skip->n_rows; i++)
        keyed[i] = (struct keyed){prx_skip_key(skip, i), skip->rows[i]};
    qsort(keyed, skip->n_rows, sizeof(*keyed), compare_keyed);
    for (size_t i = 0; i < skip->n_rows; i++)
        if (i == 0 || strcmp(keyed[i].key, keyed[i - 1].key) != 0)
            skip->rows[n_kept++] = keyed[i].row;
    skip->n_rows = n_kept;
    free(keyed);
    return 0;
}

int prx_skip_write(struct prx_skip *skip, const char *shard_path)
{
    struct prx_str path = {0}, text = {0};
    int rc = 0;

    PRX_GO(prx_skip_sort(skip));
    PRX_GO(prx_skip_path(shard_path, &path));
    if (skip->n_rows == 0) {
        if (unlink(path.bytes) < 0 && errno != ENOENT)
            rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    for (size_t i = 0; i < skip->n_rows; i++)
        PRX_GO(prx_str_printf(&text, "%s\t%s\n", prx_skip_key(skip, i),
                              prx_skip_reason(skip, i)));
    rc = prx_file_put(path.bytes, text.bytes, text.n_bytes);
out:
    prx_str_release(&path);
    prx_str_release(&text);
    return rc;
}

int prx_skip_plan(const char *shard_path, struct prx_str *plan)
{
    struct prx_str path = {0};
    struct prx_buf *bytes = NULL;
    char hash[PRX_HASH_HEX_BYTES];
    int rc = 0;

    PRX_GO(read_list(shard_path, &path, &bytes));
    if (bytes) {
        prx_hash_hex(bytes->bytes, bytes->n_bytes, hash);
        rc = prx_str_printf(plan, "skip %s %s\n", path.bytes, hash);
    }
out:
    prx_buf_unref(bytes);
    prx_str_release(&path);
    return rc;
}
