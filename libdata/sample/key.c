/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys: how a path splits into key and field, and which keys an output may carry.
 *
 * A checked key is safe to print, to put into JSON and to join to a folder.
 */
#include "libdata/sample.h"

#include <stdio.h>
#include <string.h>

size_t prx_key_split(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    const char *dot = strchr(base, '.');
    return dot && dot > base ? (size_t)(dot - path) : 0;
}

/*
 * Length of the UTF-8 character at @text, 0 where there is none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t utf8_char(const unsigned char *text)
{
    unsigned char first = text[0];
    size_t n_more = first < 0x80 ? 0 : first < 0xe0 ? 1
                                   : first < 0xf0   ? 2
                                                    : 3;
    unsigned char low = 0x80, high = 0xbf;

    if ((first >= 0x80 && first < 0xc2) || first > 0xf4)
        return 0;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i <= n_more; i++) {
        if (text[i] < low || text[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return n_more + 1;
}

bool prx_text_is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n_char = 1;

    for (; *p && n_char > 0; p += n_char)
        n_char = utf8_char(p);
    return n_char > 0;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

/* NULL where @text is printable UTF-8, else what it is not. */
static const char *find_fault(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        size_t n_char = utf8_char(p);
        if (n_char == 0)
            return "is not UTF-8";
        if (is_control(*p))
            return "has a control character";
        p += n_char;
    }
    return NULL;
}

static const char *find_key_fault(const char *key)
{
    if (*key == '\0')
        return "is empty";
    if (strnlen(key, PRX_KEY_BYTES_MAX + 1) > PRX_KEY_BYTES_MAX)
        return "is too long";
    if (*key == '/')
        return "is an absolute path";
    for (const char *part = key; part; part = strchr(part, '/')) {
        part += part > key;
        size_t n_part = strcspn(part, "/");
        if (n_part == 0)
            return "has an empty component";
        if (strncmp(part, "..", n_part) == 0 && n_part <= 2)
            return n_part == 1 ? "has a component ." : "has a component ..";
    }
    return find_fault(key);
}

int prx_key_check(const char *key)
{
    const char *fault = find_key_fault(key);
    char shown[PRX_ERR_TEXT_BYTES / 2];

    if (!fault)
        return 0;
    return prx_err(PRX_EINVAL, "key \"%s\" %s", prx_escape(key, shown, sizeof(shown)),
                   fault);
}

int prx_field_check(const char *name)
{
    const char *fault = strchr(name, '/') ? "has a slash" : find_fault(name);
    char shown[PRX_ERR_TEXT_BYTES / 2];

    if (!fault && strlen(name) > PRX_FIELD_NAME_BYTES_MAX)
        fault = "is too long";
    if (!fault)
        return 0;
    return prx_err(PRX_EINVAL, "field name \"%s\" %s",
                   prx_escape(name, shown, sizeof(shown)), fault);
}

const char *prx_escape(const char *text, char *out, size_t n_out_bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n_used = 0;

    PRX_BUG_IF(n_out_bytes < 8);
    while (*p) {
        size_t n_char = utf8_char(p);
        /* Room for the longest step, for the dots of a cut, and for the NUL. */
        if (n_used + 4 + 3 + 1 > n_out_bytes) {
            memcpy(out + n_used, "...", 3);
            n_used += 3;
            break;
        }
        if (n_char == 0 || is_control(*p)) {
            snprintf(out + n_used, 5, "\\x%02x", *p);
            n_used += 4;
            p++;
        } else {
            memcpy(out + n_used, p, n_char);
            n_used += n_char;
            p += n_char;
        }
    }
    out[n_used] = '\0';
    return out;
}

json_t *prx_json_text(const char *text)
{
    char escaped[4 * PRX_KEY_BYTES_MAX];

    if (!text)
        text = "";
    json_t *string = json_string(text);
    return string ? string : json_string(prx_escape(text, escaped, sizeof(escaped)));
}
