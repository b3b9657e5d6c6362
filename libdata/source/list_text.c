/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text files, block by block, whether plain or compressed by gzip or zstd.
 *
 * libarchive's "raw" format is the whole file as one member, behind its filters.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "libdata/source/list_internal.h"

#define N_READ_BYTES (256 * 1024)

/* What libarchive has just complained about. */
static int text_error(struct archive *archive)
{
    const char *what = archive_error_string(archive);
    int number = archive_errno(archive);

    if (number == ENOMEM)
        return prx_err_nomem("a list");
    return prx_err(number == EIO ? PRX_EIO : PRX_ECORRUPT, "torn: %s",
                   what ? what : "damaged");
}

int prx_list_text_open(struct prx_list_text *text, const char *path)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, as spreadsheets write it */
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;

    *text = (struct prx_list_text){.line = 1, .archive = archive};
    if (!archive)
        return prx_err_nomem("a list");
    /* A weaker answer than ARCHIVE_OK means an external program. */
    if (archive_read_support_format_raw(archive) != ARCHIVE_OK ||
        archive_read_support_format_empty(archive) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(archive) != ARCHIVE_OK)
        return prx_err(PRX_EFORMAT, "libarchive lacks gzip or zstd");
    errno = 0;
    if (archive_read_open_filename(archive, path, N_READ_BYTES) != ARCHIVE_OK)
        return errno ? prx_err_sys("%s", path) : text_error(archive);
    int got = archive_read_next_header(archive, &entry);
    text->is_over = got == ARCHIVE_EOF; /* an empty file has no member */
    if (got != ARCHIVE_OK && !text->is_over)
        return text_error(archive);
    PRX_TRY(prx_list_text_more(text));
    if (text->end - text->next >= 3 && memcmp(text->next, mark, 3) == 0)
        text->next += 3;
    return 0;
}

int prx_list_text_more(struct prx_list_text *text)
{
    const void *block = NULL;
    size_t n_block = 0;
    la_int64_t offset;

    while (text->next == text->end) {
        if (text->is_over)
            return 0;
        int got = archive_read_data_block(text->archive, &block, &n_block, &offset);
        text->is_over = got == ARCHIVE_EOF;
        if (got < ARCHIVE_WARN)
            return text_error(text->archive);
        if (n_block > 0 && !text->is_over) {
            text->next = block;
            text->end = text->next + n_block;
        }
    }
    return 1;
}

void prx_list_text_close(struct prx_list_text *text)
{
    archive_read_free(text->archive);
    *text = (struct prx_list_text){0};
}
