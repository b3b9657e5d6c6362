/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URLs as text: what may be shown of them, and names put beside them.
 *
 *     scheme://user:password@host:port/path?query#fragment      (RFC 3986)
 */
#include <string.h>
#include <strings.h>

#include "libdata/sample.h"
#include "libdata/url.h"

/* Where the host begins: behind "http://" or "https://"; NULL: another scheme. */
static const char *authority_of(const char *url)
{
    if (strncasecmp(url, "http://", 7) == 0)
        return url + 7;
    if (strncasecmp(url, "https://", 8) == 0)
        return url + 8;
    return NULL;
}

bool prx_url_is(const char *word)
{
    const char *authority = authority_of(word);

    return authority && strcspn(authority, "/?#") > 0;
}

static size_t path_end(const char *url)
{
    return strcspn(url, "?#");
}

const char *prx_url_show(const char *url, char *out, size_t n_out_bytes)
{
    const char *authority = authority_of(url);
    struct prx_str shown = {0};

    if (!authority)
        return prx_escape(url, out, n_out_bytes);
    size_t n_scheme = (size_t)(authority - url);
    size_t n_authority = strcspn(authority, "/?#");
    const char *host = authority;
    for (size_t i = 0; i < n_authority; i++)
        if (authority[i] == '@')
            host = authority + i + 1;
    /* Short of memory nothing is shown rather than too much. */
    if (prx_str_add(&shown, url, n_scheme) < 0 ||
        prx_str_add(&shown, host, path_end(host)) < 0)
        prx_str_reset(&shown);
    prx_escape(shown.bytes ? shown.bytes : "", out, n_out_bytes);
    prx_str_release(&shown);
    return out;
}

bool prx_url_path_ends_with(const char *url, const char *end)
{
    size_t n_path = path_end(url), n_end = strlen(end);

    return n_path >= n_end && strncmp(url + n_path - n_end, end, n_end) == 0;
}

/* Bytes that stand for themselves in a path: RFC 3986's unreserved ones, and '/'. */
static bool is_plain(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte && strchr("-._~/", byte));
}

int prx_url_join(const char *base, const char *name, struct prx_str *out)
{
    const char *authority = authority_of(base);

    PRX_BUG_IF(!authority);
    size_t n_path = path_end(base), n_folder = n_path;
    const char *first = authority + strcspn(authority, "/?#");
    while (base + n_folder > first && base[n_folder - 1] != '/')
        n_folder--;
    PRX_TRY(prx_str_add(out, base, n_folder));
    if (base[n_folder - 1] != '/')
        PRX_TRY(prx_str_puts(out, "/"));
    for (; *name; name++) {
        if (is_plain(*name))
            PRX_TRY(prx_str_add(out, name, 1));
        else
            PRX_TRY(prx_str_printf(out, "%%%02X", (unsigned char)*name));
    }
    const char *query = base + n_path;
    return prx_str_add(out, query, *query == '?' ? strcspn(query, "#") : 0);
}
