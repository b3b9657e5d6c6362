/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cards: which process is it, and is it still there?
 *
 * Linux tells by /proc: the number of the boot, the name space in which process
 * numbers count, and when a process has started, so that a number given to another
 * process does not deceive.  Where that is missing nobody is ever known to be dead.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/job/job_internal.h"
#include "libdata/outfile.h"

#define N_CARD_BYTES_MAX 4096

/* State and start time of a process, fields 3 and 22 of proc(5)'s stat. */
static bool read_process(int64_t pid, char *state, uint64_t *started)
{
    char path[64], line[1024];

    snprintf(path, sizeof(path), "/proc/%" PRId64 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool has_line = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    /* Field 2 is a name in parentheses, with anything in it. */
    char *field = has_line ? strrchr(line, ')') : NULL;
    if (!field || strlen(field) < 3)
        return false;
    field += 2;
    *state = *field;
    for (int i = 3; i < 22 && field; i++) {
        field = strchr(field, ' ');
        field += field != NULL;
    }
    return field && sscanf(field, "%" SCNu64, started) == 1;
}

static void read_machine(char *out, size_t n_out)
{
    char boot[40] = "", space[64] = "";

    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        if (!fgets(boot, sizeof(boot), file))
            boot[0] = '\0';
        fclose(file);
    }
    boot[strcspn(boot, "\n")] = '\0';
    if (readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0)
        space[0] = '\0';
    if (boot[0] && space[0])
        snprintf(out, n_out, "%s %s", boot, space);
}

static int draw_nonce(char nonce[PRX_NONCE_BYTES])
{
    uint64_t draw = 0;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return prx_err_sys("/dev/urandom");
    ssize_t n_got = read(fd, &draw, sizeof(draw));
    close(fd);
    if (n_got != (ssize_t)sizeof(draw))
        return prx_err(PRX_EIO, "/dev/urandom: cut off");
    snprintf(nonce, PRX_NONCE_BYTES, "%016" PRIx64, draw);
    return 0;
}

int prx_card_init(struct prx_card *card)
{
    char state;

    *card = (struct prx_card){.pid = getpid()};
    PRX_TRY(draw_nonce(card->nonce));
    if (read_process(card->pid, &state, &card->started))
        read_machine(card->machine, sizeof(card->machine));
    return 0;
}

int prx_card_write(const struct prx_card *card, const char *path)
{
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I}", "host", host, "machine",
                               card->machine, "nonce", card->nonce, "pid",
                               (json_int_t)card->pid, "started",
                               (json_int_t)card->started);
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    int rc =
        text ? prx_file_put(path, text, strlen(text)) : prx_err_nomem("a job's card");

    free(text);
    json_decref(object);
    return rc;
}

int prx_card_read(struct prx_card *card, const char *path, struct timespec *touched)
{
    char text[N_CARD_BYTES_MAX];
    const char *machine, *nonce;
    json_int_t pid, started;
    struct stat st;
    int rc = 0;

    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return prx_err_sys("%s", path);
    ssize_t n_bytes = fstat(fd, &st) < 0 ? -1 : read(fd, text, sizeof(text));
    if (n_bytes < 0)
        rc = prx_err_sys("%s", path);
    close(fd);
    PRX_TRY(rc);
    json_t *object = json_loadb(text, (size_t)n_bytes, 0, NULL);
    *card = (struct prx_card){.pid = 0};
    if (json_unpack(object, "{s:s, s:s, s:I, s:I}", "machine", &machine, "nonce",
                    &nonce, "pid", &pid, "started", &started) == 0 &&
        strlen(nonce) == PRX_NONCE_BYTES - 1 &&
        strspn(nonce, "0123456789abcdef") == PRX_NONCE_BYTES - 1 &&
        strlen(machine) < sizeof(card->machine) && pid > 0) {
        memcpy(card->nonce, nonce, PRX_NONCE_BYTES);
        memcpy(card->machine, machine, strlen(machine) + 1);
        card->pid = pid;
        card->started = (uint64_t)started;
        *touched = st.st_mtim;
    } else {
        rc = prx_err(PRX_ECORRUPT, "%s: not the card of a process", path);
    }
    json_decref(object);
    return rc;
}

bool prx_card_is_dead(const struct prx_card *card, const struct prx_card *reader)
{
    uint64_t started;
    char state;

    if (!reader->machine[0] || strcmp(card->machine, reader->machine) != 0)
        return false;
    if (kill((pid_t)card->pid, 0) < 0 && errno == ESRCH)
        return true;
    /* Z and X: it has ended, and only its parent does not know yet. */
    return read_process(card->pid, &state, &started) &&
           (state == 'Z' || state == 'X' || started != card->started);
}
