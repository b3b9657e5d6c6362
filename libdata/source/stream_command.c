/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command writes: a child in a process group of its own.
 *
 * The end of its output is not enough: what counts is how it ends, so that end is
 * waited for.  A reader that goes away before ends the whole group, and does not ask
 * how it took that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/source/stream_internal.h"

#define GRACE_MS 1000 /* between SIGTERM and SIGKILL */
#define TURN_MS  10

struct stream_command {
    struct prx_stream base;
    char *name;  /* "pipe:" and the command */
    pid_t pid;   /* 0: none is running */
    int fd;      /* -1 before it is begun */
    bool is_end; /* it has ended well */
};

/* This program blocks signals and ignores SIGPIPE; the child does neither. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    const short flags =
        POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t none, broken_pipe;
    int fault;

    sigemptyset(&none);
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    if ((fault = posix_spawnattr_setpgroup(attributes, 0)) != 0 ||
        (fault = posix_spawnattr_setsigmask(attributes, &none)) != 0 ||
        (fault = posix_spawnattr_setsigdefault(attributes, &broken_pipe)) != 0)
        return fault;
    return posix_spawnattr_setflags(attributes, flags);
}

static int spawn(struct stream_command *command, int output)
{
    char shell[] = "sh", option[] = "-c";
    char *argv[] = {shell, option, command->name + sizeof("pipe:") - 1, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    extern char **environ;
    int fault;

    if ((fault = posix_spawn_file_actions_init(&actions)) != 0)
        goto out;
    if ((fault = posix_spawnattr_init(&attributes)) != 0)
        goto out_actions;
    fault = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                             O_RDONLY, 0);
    if (fault == 0)
        fault = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (fault == 0)
        fault = set_attributes(&attributes);
    if (fault == 0)
        fault =
            posix_spawn(&command->pid, "/bin/sh", &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
out_actions:
    posix_spawn_file_actions_destroy(&actions);
out:
    if (fault == 0)
        return 0;
    command->pid = 0;
    errno = fault;
    return prx_err_sys("%s", command->name);
}

static int begin(struct stream_command *command)
{
    int ends[2];

    if (pipe(ends) < 0)
        return prx_err_sys("%s", command->name);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    command->fd = ends[0];
    int rc = spawn(command, ends[1]);
    close(ends[1]);
    return rc;
}

/* Has it ended?  Its status then, and it is no longer there to be waited for. */
static bool is_reaped(struct stream_command *command, int *status)
{
    pid_t pid;

    do
        pid = waitpid(command->pid, status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return false;
    if (pid < 0)
        *status = 0;
    command->pid = 0;
    return true;
}

static void pause_turn(void)
{
    poll(NULL, 0, TURN_MS);
}

static int judge_end(struct stream_command *command)
{
    int status;

    while (!is_reaped(command, &status)) {
        if (atomic_load(command->base.is_canceled))
            return prx_err(PRX_ECANCELED, "%s: canceled", command->name);
        pause_turn();
    }
    if (WIFSIGNALED(status))
        return prx_err(PRX_ECORRUPT, "%s: ended by signal %d", command->name,
                       WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return prx_err(PRX_ECORRUPT, "%s: ended with status %d", command->name,
                       WEXITSTATUS(status));
    command->is_end = true;
    return 0;
}

static int command_read(struct prx_stream *stream, void *bytes, size_t n_max,
                        size_t *n_got)
{
    struct stream_command *command = (struct stream_command *)stream;

    *n_got = 0;
    if (command->is_end)
        return 0;
    if (command->fd < 0)
        PRX_TRY(begin(command));
    PRX_TRY(prx_fd_read(command->fd, command->name, stream->is_canceled, bytes, n_max,
                        n_got));
    return *n_got > 0 ? 0 : judge_end(command);
}

static void end_group(struct stream_command *command)
{
    int status;

    kill(-command->pid, SIGTERM);
    for (int i = 0; i < GRACE_MS / TURN_MS; i++) {
        if (is_reaped(command, &status))
            return;
        pause_turn();
    }
    kill(-command->pid, SIGKILL);
    while (waitpid(command->pid, &status, 0) < 0 && errno == EINTR)
        ;
    command->pid = 0;
}

static void command_close(struct prx_stream *stream)
{
    struct stream_command *command = (struct stream_command *)stream;

    if (command->fd >= 0)
        close(command->fd);
    if (command->pid > 0)
        end_group(command);
    free(command->name);
    free(command);
}

static const struct prx_stream_ops command_ops = {
    .read = command_read,
    .close = command_close,
};

int prx_stream_command(const char *word, struct prx_stream **out)
{
    struct stream_command *command = calloc(1, sizeof(*command));

    if (!command)
        return prx_err_nomem("a command");
    command->base.ops = &command_ops;
    command->fd = -1;
    int rc = prx_strdup(word, &command->name);
    if (rc < 0)
        command_close(&command->base);
    else
        *out = &command->base;
    return rc;
}
