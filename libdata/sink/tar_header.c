/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of tar members: POSIX ustar, and pax where ustar's fields end.
 *
 * Written here and not by a library because the bytes are part of our promise:
 * the same samples give the same shard with whatever library is installed.
 * Source: POSIX.1-2008, pax, "ustar Interchange Format" and "pax Header Block".
 */
#include <stdio.h>
#include <string.h>

#include "libdata/sink/sink_internal.h"

#define N_BLOCK_BYTES    512
#define N_USTAR_SIZE_MAX ((UINT64_C(1) << 33) - 1)

struct ustar {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char chksum[8];
    char typeflag;
    char linkname[100];
    char magic[6];
    char version[2];
    char uname[32];
    char gname[32];
    char devmajor[8];
    char devminor[8];
    char prefix[155];
    char pad[12];
};
_Static_assert(sizeof(struct ustar) == N_BLOCK_BYTES, "a tar header is one block");

/* Where @name can be cut into prefix and name: the slash; NULL: it cannot. */
static const char *find_cut(const char *name, size_t n_name)
{
    struct ustar header;
    size_t n_least = n_name - sizeof(header.name) - 1;

    for (size_t i = n_least; i <= sizeof(header.prefix) && i + 1 < n_name; i++)
        if (i > 0 && name[i] == '/')
            return name + i;
    return NULL;
}

/* Fill in @name as far as it fits; false where it does not. */
static bool set_name(struct ustar *header, const char *name)
{
    size_t n_name = strlen(name);
    const char *cut;

    if (n_name <= sizeof(header->name)) {
        memcpy(header->name, name, n_name);
        return true;
    }
    cut = find_cut(name, n_name);
    if (!cut) {
        memcpy(header->name, name, sizeof(header->name));
        return false;
    }
    memcpy(header->prefix, name, (size_t)(cut - name));
    memcpy(header->name, cut + 1, n_name - (size_t)(cut + 1 - name));
    return true;
}

static void set_octal(char *field, size_t n_field, uint64_t value)
{
    field[n_field - 1] = '\0';
    for (size_t i = n_field - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

static void set_rest(struct ustar *header, char typeflag, uint64_t n_bytes)
{
    unsigned sum = 0;

    set_octal(header->mode, sizeof(header->mode), 0444);
    set_octal(header->uid, sizeof(header->uid), 0);
    set_octal(header->gid, sizeof(header->gid), 0);
    set_octal(header->size, sizeof(header->size), n_bytes);
    set_octal(header->mtime, sizeof(header->mtime), 0);
    set_octal(header->devmajor, sizeof(header->devmajor), 0);
    set_octal(header->devminor, sizeof(header->devminor), 0);
    header->typeflag = typeflag;
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    memset(header->chksum, ' ', sizeof(header->chksum));
    for (size_t i = 0; i < sizeof(*header); i++)
        sum += ((const unsigned char *)header)[i];
    set_octal(header->chksum, 7, sum);
}

/* "LENGTH KEYWORD=VALUE\n", where LENGTH counts its own digits too. */
static int add_pax(struct prx_str *out, const char *keyword, const char *value)
{
    size_t n_rest = strlen(keyword) + strlen(value) + 3;
    size_t n_line = n_rest + 1;

    for (size_t n_digits = 1;; n_digits++) {
        n_line = n_rest + n_digits;
        if ((size_t)snprintf(NULL, 0, "%zu", n_line) == n_digits)
            break;
    }
    return prx_str_printf(out, "%zu %s=%s\n", n_line, keyword, value);
}

static int add_block(struct prx_str *out, const struct ustar *header)
{
    return prx_str_add(out, header, sizeof(*header));
}

/* The pax header block, and the lines behind it. */
static int add_pax_header(struct prx_str *out, const char *name, uint64_t n_bytes)
{
    static const char zeros[N_BLOCK_BYTES];
    struct ustar header = {0};
    struct prx_str lines = {0};
    char size[24];
    int rc = 0;

    if (name)
        PRX_GO(add_pax(&lines, "path", name));
    if (n_bytes > N_USTAR_SIZE_MAX) {
        snprintf(size, sizeof(size), "%llu", (unsigned long long)n_bytes);
        PRX_GO(add_pax(&lines, "size", size));
    }
    set_name(&header, "././@PaxHeader");
    set_rest(&header, 'x', lines.n_bytes);
    PRX_GO(add_block(out, &header));
    PRX_GO(prx_str_add(out, lines.bytes, lines.n_bytes));
    PRX_GO(prx_str_add(out, zeros, -lines.n_bytes % N_BLOCK_BYTES));
out:
    prx_str_release(&lines);
    return rc;
}

int prx_tar_header(struct prx_str *out, const char *name, uint64_t n_bytes)
{
    struct ustar header = {0};
    bool fits = set_name(&header, name);
    bool is_huge = n_bytes > N_USTAR_SIZE_MAX;

    if (!fits || is_huge)
        PRX_TRY(add_pax_header(out, fits ? NULL : name, n_bytes));
    set_rest(&header, '0', is_huge ? 0 : n_bytes);
    return add_block(out, &header);
}
