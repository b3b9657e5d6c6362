/* SPDX-License-Identifier: Apache-2.0 */
/* Checked lines, and the lock on their file. */
#include "libdata/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/hash.h"
#include "libdata/outfile.h"

#define N_HASH_CHARS 16

/*
 * The holder may remove the file between our open and our lock; what we then
 * hold is a file without a name, which keeps nobody out.
 */
static int lock_named(int fd, const char *path, bool *is_named)
{
    struct stat held, named;

    *is_named = false;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return prx_err(PRX_EEXIST, "%s: in use by another process", path);
        return prx_err_sys("%s", path);
    }
    if (fstat(fd, &held) < 0)
        return prx_err_sys("%s", path);
    if (stat(path, &named) == 0)
        *is_named = held.st_dev == named.st_dev && held.st_ino == named.st_ino;
    else if (errno != ENOENT)
        return prx_err_sys("%s", path);
    return 0;
}

/* "a/x.index.json" has "a/.x.prx-journal". */
int prx_journal_path(const char *index_path, struct prx_str *out)
{
    const char *slash = strrchr(index_path, '/');
    const char *base = slash ? slash + 1 : index_path;
    size_t n_base = strlen(base), n_end = strlen("index.json");

    PRX_BUG_IF(n_base < n_end || strcmp(base + n_base - n_end, "index.json") != 0);
    return prx_str_printf(out, "%.*s.%.*sprx-journal", (int)(base - index_path),
                          index_path, (int)(n_base - n_end), base);
}

int prx_journal_open(struct prx_journal *journal, const char *path)
{
    bool is_named = false;

    *journal = (struct prx_journal){.fd = -1};
    while (!is_named) {
        int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0)
            return prx_err_sys("%s", path);
        int rc = lock_named(fd, path, &is_named);
        if (rc < 0 || !is_named)
            close(fd);
        else
            journal->fd = fd;
        PRX_TRY(rc);
    }
    int rc = prx_strdup(path, &journal->path);
    if (rc < 0)
        close(journal->fd);
    return rc;
}

static void hash_line(const char *text, size_t n_text, char out[N_HASH_CHARS])
{
    char hex[PRX_HASH_HEX_BYTES];
    prx_hash_hex(text, n_text, hex);
    memcpy(out, hex, N_HASH_CHARS);
}

/* The text of @line, its newline cut off; NULL where it does not check. */
static const char *check_line(char *line, size_t n_line)
{
    char hash[N_HASH_CHARS];

    if (n_line < N_HASH_CHARS + 2 || line[n_line - 1] != '\n' ||
        line[N_HASH_CHARS] != ' ')
        return NULL;
    line[n_line - 1] = '\0';
    hash_line(line + N_HASH_CHARS + 1, n_line - N_HASH_CHARS - 2, hash);
    return memcmp(line, hash, N_HASH_CHARS) == 0 ? line + N_HASH_CHARS + 1 : NULL;
}

int prx_journal_read(struct prx_journal *journal,
                     int (*fn)(void *ctx, const char *text, uint64_t end_bytes),
                     void *ctx)
{
    uint64_t end_bytes = 0;
    char *line = NULL;
    size_t cap_line = 0;
    ssize_t n_line;
    int rc = 0;

    FILE *file = fopen(journal->path, "re");
    if (!file)
        return prx_err_sys("%s", journal->path);
    while (rc == 0 && (n_line = getline(&line, &cap_line, file)) > 0) {
        const char *text = check_line(line, (size_t)n_line);
        if (!text)
            break;
        end_bytes += (uint64_t)n_line;
        rc = fn(ctx, text, end_bytes);
    }
    if (rc == 0 && ferror(file))
        rc = prx_err_sys("%s", journal->path);
    fclose(file);
    free(line);
    return rc;
}

int prx_journal_cut(struct prx_journal *journal, uint64_t n_bytes)
{
    return prx_fd_cut(journal->fd, journal->path, n_bytes);
}

int prx_journal_put(struct prx_journal *journal, const char *text, bool is_synced)
{
    size_t n_text = strlen(text);
    char head[N_HASH_CHARS + 1];

    hash_line(text, n_text, head);
    head[N_HASH_CHARS] = ' ';
    struct iovec parts[] = {
        {head, sizeof(head)},
        {(char *)(uintptr_t)text, n_text},
        {(char[]){'\n'}, 1},
    };
    PRX_TRY(prx_writev_all(journal->fd, journal->path, parts, 3));
    return is_synced ? prx_fd_sync(journal->fd, journal->path) : 0;
}

int prx_journal_remove(struct prx_journal *journal)
{
    int rc = 0;

    if (journal->path && unlink(journal->path) < 0)
        rc = prx_err_sys("%s", journal->path);
    prx_journal_close(journal, false);
    return rc;
}

void prx_journal_close(struct prx_journal *journal, bool is_removed)
{
    if (!journal->path)
        return;
    /* Removed while locked: nobody can have begun to use it. */
    if (is_removed)
        unlink(journal->path);
    close(journal->fd);
    free(journal->path);
    *journal = (struct prx_journal){.fd = -1};
}
