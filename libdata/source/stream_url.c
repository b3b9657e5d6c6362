/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes at a URL, held to what its fragment says they are.
 *
 * The fragment of a URL is never sent, so it can carry what the reader knows already:
 * "#bytes=N&xxh128=HEX", from an index or from a user who wants just these bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/hash.h"
#include "libdata/source/stream_url_internal.h"
#include "libdata/url.h"

struct stream_url {
    struct prx_stream base;
    struct prx_url *url;
    char name[512];
    struct prx_url_pin pin;
    uint64_t n_read;
    struct prx_hasher *hasher; /* NULL where no hash is known */
    bool is_over;
};

static int parse_member(struct prx_url_pin *pin, const char *text, size_t n_text)
{
    static const char digits[] = "0123456789abcdef";

    if (n_text > 6 && n_text < 26 && strncmp(text, "bytes=", 6) == 0) {
        char *end;
        pin->n_bytes = strtoull(text + 6, &end, 10);
        pin->has_n_bytes = true;
        if (text[6] >= '0' && text[6] <= '9' && end == text + n_text)
            return 0;
    } else if (n_text == 7 + PRX_HASH_HEX_BYTES - 1 &&
               strncmp(text, "xxh128=", 7) == 0) {
        memcpy(pin->xxh128, text + 7, PRX_HASH_HEX_BYTES - 1);
        if (strspn(pin->xxh128, digits) == PRX_HASH_HEX_BYTES - 1)
            return 0;
    }
    return prx_err(PRX_EINVAL, "#%.*s: want #bytes=N, #xxh128=HEX or both with &",
                   (int)(n_text < 64 ? n_text : 64), text);
}

int prx_url_pin_parse(struct prx_url_pin *pin, const char *url)
{
    const char *at = strchr(url, '#');
    char name[512];

    *pin = (struct prx_url_pin){0};
    while (at && *at) {
        size_t n = strcspn(at + 1, "&");
        if (parse_member(pin, at + 1, n) < 0)
            return prx_err_frame(PRX_EINVAL, "%s",
                                 prx_url_show(url, name, sizeof(name)));
        at += 1 + n;
    }
    return 0;
}

int prx_url_pin_format(const struct prx_url_pin *pin, struct prx_str *out)
{
    if (pin->has_n_bytes)
        PRX_TRY(prx_str_printf(out, "#bytes=%llu", (unsigned long long)pin->n_bytes));
    if (*pin->xxh128)
        PRX_TRY(prx_str_printf(out, "%cxxh128=%s", pin->has_n_bytes ? '&' : '#',
                               pin->xxh128));
    return 0;
}

static bool is_set(void *ctx)
{
    const struct stream_url *stream = ctx;

    return atomic_load(stream->base.is_canceled);
}

static int differs(struct stream_url *stream, uint64_t n_bytes)
{
    return prx_err(PRX_ECORRUPT, "%s: %llu bytes, and its index says %llu",
                   stream->name, (unsigned long long)n_bytes,
                   (unsigned long long)stream->pin.n_bytes);
}

/* What the server says of the length is known before the first byte is given out. */
static int check_length(struct stream_url *stream)
{
    const struct prx_url_pin *pin = &stream->pin;
    const struct prx_url_id *id = prx_url_id(stream->url);

    if (!pin->has_n_bytes)
        return 0;
    if (id->has_n_bytes && id->n_bytes != pin->n_bytes)
        return differs(stream, id->n_bytes);
    if (stream->n_read > pin->n_bytes ||
        (stream->is_over && stream->n_read != pin->n_bytes))
        return differs(stream, stream->n_read);
    return 0;
}

static int check_hash(struct stream_url *stream)
{
    char hash[PRX_HASH_HEX_BYTES];

    if (!stream->hasher)
        return 0;
    prx_hasher_hex(stream->hasher, hash);
    if (strcmp(hash, stream->pin.xxh128) == 0)
        return 0;
    return prx_err(PRX_ECORRUPT, "%s: differs from its index: xxh128 %s, not %s",
                   stream->name, hash, stream->pin.xxh128);
}

static int url_read(struct prx_stream *base, void *bytes, size_t n_max, size_t *n_got)
{
    struct stream_url *stream = (struct stream_url *)base;

    *n_got = 0;
    if (stream->is_over)
        return 0;
    PRX_TRY(prx_url_read(stream->url, bytes, n_max, n_got));
    stream->n_read += *n_got;
    stream->is_over = *n_got == 0;
    PRX_TRY(check_length(stream));
    if (stream->is_over)
        return check_hash(stream);
    if (stream->hasher)
        prx_hasher_add(stream->hasher, bytes, *n_got);
    return 0;
}

static const char *url_type(const struct prx_stream *base)
{
    return prx_url_id(((const struct stream_url *)base)->url)->type;
}

static void url_close(struct prx_stream *base)
{
    struct stream_url *stream = (struct stream_url *)base;

    prx_url_close(stream->url);
    prx_hasher_free(stream->hasher);
    free(stream);
}

static const struct prx_stream_ops url_ops = {
    .read = url_read,
    .type = url_type,
    .close = url_close,
};

int prx_stream_url(const char *url, const struct prx_url_id *id,
                   struct prx_stream **out)
{
    struct stream_url *stream = calloc(1, sizeof(*stream));
    int rc = 0;

    if (!stream)
        return prx_err_nomem("a URL");
    const struct prx_url_opts opts = {.is_canceled = is_set, .ctx = stream};
    stream->base.ops = &url_ops;
    prx_url_show(url, stream->name, sizeof(stream->name));
    PRX_GO(prx_url_pin_parse(&stream->pin, url));
    if (*stream->pin.xxh128)
        PRX_GO(prx_hasher_new(&stream->hasher));
    PRX_GO(prx_url_open(url, &opts, id, &stream->url));
    *out = &stream->base;
    stream = NULL;
out:
    if (stream)
        url_close(&stream->base);
    return rc;
}
