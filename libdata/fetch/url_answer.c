/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of an HTTP answer's head (RFC 9110), taken one by one. */
#include "libdata/fetch/url_answer_internal.h"

#include <string.h>
#include <strings.h>

/* Copy what fits whole; a text that is longer is not known. */
static void keep(char *out, size_t n_out, const char *text, size_t n_text)
{
    if (n_text >= n_out)
        n_text = 0;
    memcpy(out, text, n_text);
    out[n_text] = '\0';
}

/* Digits at *@at, which is moved behind them. */
static bool take_number(const char **at, const char *end, uint64_t *out)
{
    const char *begin = *at;

    *out = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (*out > (UINT64_MAX - digit) / 10)
            return false;
        *out = *out * 10 + digit;
    }
    return *at > begin;
}

/* "bytes 0-9/100", "bytes 0-9/" and a star, "bytes" and a star "/100". */
static void read_range(struct prx_url_answer *answer, const char *at, const char *end)
{
    uint64_t first = 0, last = 0;
    bool has_range = false;

    if (end - at < 6 || strncasecmp(at, "bytes ", 6) != 0)
        return;
    at += 6;
    if (at < end && *at == '*') {
        at++;
    } else {
        if (!take_number(&at, end, &first) || at == end || *at++ != '-' ||
            !take_number(&at, end, &last) || last < first)
            return;
        has_range = true;
    }
    if (at == end || *at++ != '/')
        return;
    answer->has_total = take_number(&at, end, &answer->n_total);
    answer->has_range = has_range && !(answer->has_total && last >= answer->n_total);
    answer->first_byte = first;
}

void prx_url_answer_add(struct prx_url_answer *answer, const char *line, size_t n_line)
{
    const char *colon = memchr(line, ':', n_line), *end = line + n_line;

    if (n_line >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        *answer = (struct prx_url_answer){0};
        return;
    }
    if (!colon)
        return;
    const char *at = colon + 1;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && strchr(" \t\r\n", end[-1]))
        end--;
    size_t n_name = (size_t)(colon - line), n_text = (size_t)(end - at);
#define IS(name) (n_name == sizeof(name) - 1 && strncasecmp(line, name, n_name) == 0)
    if (IS("etag")) {
        keep(answer->id.etag, sizeof(answer->id.etag), at, n_text);
    } else if (IS("last-modified")) {
        keep(answer->id.modified, sizeof(answer->id.modified), at, n_text);
    } else if (IS("content-type")) {
        keep(answer->id.type, sizeof(answer->id.type), at, n_text);
    } else if (IS("content-range")) {
        read_range(answer, at, end);
    } else if (IS("location")) {
        answer->is_elsewhere = true;
    } else if (IS("content-encoding")) {
        /* "identity" is not to be sent, but says nothing wrong. */
        bool is_identity = n_text == 8 && strncasecmp(at, "identity", 8) == 0;
        keep(answer->encoding, sizeof(answer->encoding), is_identity ? "" : at,
             is_identity ? 0 : n_text);
        if (n_text >= sizeof(answer->encoding))
            memcpy(answer->encoding, "unknown", sizeof("unknown"));
    }
#undef IS
}

bool prx_url_status_is_passing(long status)
{
    switch (status) {
    case 408: /* request timeout */
    case 425: /* too early */
    case 429: /* too many requests */
    case 500:
    case 502:
    case 503:
    case 504:
        return true;
    default:
        return false;
    }
}
