/* SPDX-License-Identifier: Apache-2.0 */
/* A bad web server, for what must be able to do with one. */
#include "tests/lib/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libdata/buf.h"

struct http_server {
    struct http_page *pages;
    size_t n_pages;
    int listener, port;
    pthread_t thread;
    atomic_bool is_closed;
    atomic_int n_open; /* connections */
};

struct visit {
    struct http_server *server;
    int fd;
};

static void need(int ok)
{
    if (!ok) {
        perror("http_server");
        abort();
    }
}

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

static bool send_all(int fd, const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n_sent = send(fd, bytes, n_bytes, MSG_NOSIGNAL);
        if (n_sent <= 0)
            return false;
        bytes += n_sent;
        n_bytes -= (size_t)n_sent;
    }
    return true;
}

/* The request's head into @head; false where the client goes away. */
static bool read_head(int fd, char *head, size_t n_head)
{
    size_t n_read = 0;

    while (n_read + 1 < n_head) {
        ssize_t n_got = recv(fd, head + n_read, n_head - 1 - n_read, 0);
        if (n_got <= 0)
            return false;
        n_read += (size_t)n_got;
        head[n_read] = '\0';
        if (strstr(head, "\r\n\r\n"))
            return true;
    }
    return false;
}

/* The text behind "\nNAME: ", to the end of the line; false: it is not there. */
static bool find_header(const char *head, const char *name, char *out, size_t n_out)
{
    const char *at = strstr(head, name);

    if (!at)
        return false;
    at += strlen(name);
    snprintf(out, n_out, "%.*s", (int)strcspn(at, "\r\n"), at);
    return true;
}

static void add(struct prx_str *text, const char *fmt, ...) PRX_PRINTF(2, 3);

static void add(struct prx_str *text, const char *fmt, ...)
{
    char line[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    need(prx_str_puts(text, line) == 0);
}

static void add_headers(struct prx_str *head, const struct http_page *page,
                        const char *etag)
{
    add(head, "Connection: close\r\n");
    if (page->type)
        add(head, "Content-Type: %s\r\n", page->type);
    if (etag)
        add(head, "ETag: %s\r\n", etag);
    if (page->modified)
        add(head, "Last-Modified: %s\r\n", page->modified);
    if (page->encoding)
        add(head, "Content-Encoding: %s\r\n", page->encoding);
}

static void send_short(int fd, const struct http_page *page, int status)
{
    struct prx_str head = {0};

    add(&head, "HTTP/1.1 %d Whatever\r\nConnection: close\r\nContent-Length: 4\r\n",
        status);
    if (page && page->location)
        add(&head, "Location: %s\r\n", page->location);
    if (page && page->retry_after)
        add(&head, "Retry-After: %s\r\n", page->retry_after);
    add(&head, "\r\noops");
    send_all(fd, head.bytes, head.n_bytes);
    prx_str_release(&head);
}

static bool send_chunks(int fd, const char *bytes, size_t n_bytes)
{
    char line[32];

    for (size_t n; n_bytes > 0; bytes += n, n_bytes -= n) {
        n = n_bytes < 1000 ? n_bytes : 1000;
        snprintf(line, sizeof(line), "%zx\r\n", n);
        if (!send_all(fd, line, strlen(line)) || !send_all(fd, bytes, n) ||
            !send_all(fd, "\r\n", 2))
            return false;
    }
    return true;
}

static void send_body(struct http_server *server, struct http_page *page, int fd,
                      int i_body, const char *bytes, size_t n_bytes)
{
    bool is_cut = i_body < page->n_cuts, is_stalled = i_body < page->n_stalls;
    size_t n_sent =
        (is_cut || is_stalled) && page->n_cut < n_bytes ? page->n_cut : n_bytes;

    if (page->is_chunked) {
        if (send_chunks(fd, bytes, n_sent) && !is_cut)
            send_all(fd, "0\r\n\r\n", 5);
    } else if (page->n_drips_ms) {
        size_t n_drip = page->n_drip ? page->n_drip : 1;
        for (size_t i = 0, n; i < n_sent; i += n) {
            n = n_sent - i < n_drip ? n_sent - i : n_drip;
            if (!send_all(fd, bytes + i, n))
                break;
            pause_ms(page->n_drips_ms);
        }
    } else {
        send_all(fd, bytes, n_sent);
    }
    while (is_stalled && !atomic_load(&server->is_closed)) {
        char byte;
        if (recv(fd, &byte, 1, MSG_DONTWAIT) == 0)
            break;
        pause_ms(10);
    }
}

static void serve(struct http_server *server, struct http_page *page, int fd,
                  const char *request)
{
    int i_request = atomic_fetch_add(&page->n_requests, 1);
    char text[256];
    size_t first = 0, last = 0;
    struct prx_str head = {0};

    bool has_range = find_header(request, "\nRange: bytes=", text, sizeof(text));
    atomic_fetch_add(&page->n_range_requests, has_range);
    if (i_request < page->n_refusals || page->location) {
        send_short(fd, page, page->location ? 302 : page->refusal);
        return;
    }
    int i_body = atomic_fetch_add(&page->n_bodies, 1);
    bool is_later = i_body > 0;
    const char *etag = is_later && page->etag_later ? page->etag_later : page->etag;
    bool has_other = is_later && page->bytes_later;
    const char *bytes = has_other ? page->bytes_later : page->bytes;
    size_t n_bytes = has_other ? page->n_bytes_later : page->n_bytes;

    if (has_range && !page->ignores_ranges) {
        char *end;
        first = strtoull(text, &end, 10);
        last = end[0] == '-' && end[1] ? strtoull(end + 1, NULL, 10) : n_bytes - 1;
        if (find_header(request, "\nIf-Range: ", text, sizeof(text)) &&
            (!etag || strcmp(text, etag) != 0) &&
            (!page->modified || strcmp(text, page->modified) != 0))
            has_range = false;
    }
    if (has_range && !page->ignores_ranges && first >= n_bytes) {
        add(&head,
            "HTTP/1.1 416 No\r\nConnection: close\r\nContent-Length: 0\r\n"
            "Content-Range: bytes */%zu\r\n\r\n",
            n_bytes);
        send_all(fd, head.bytes, head.n_bytes);
        prx_str_release(&head);
        return;
    }
    size_t n_whole = n_bytes;
    if (has_range && !page->ignores_ranges) {
        add(&head, "HTTP/1.1 206 Partial\r\n");
        if (page->range_lie)
            add(&head, "Content-Range: %s\r\n", page->range_lie);
        else
            add(&head, "Content-Range: bytes %zu-%zu/%zu\r\n", first, last, n_whole);
        bytes += first;
        n_bytes = last + 1 - first;
    } else {
        add(&head, "HTTP/1.1 200 OK\r\n");
    }
    add_headers(&head, page, etag);
    if (page->is_chunked)
        add(&head, "Transfer-Encoding: chunked\r\n");
    else if (!page->has_no_length)
        add(&head, "Content-Length: %zu\r\n", n_bytes + page->n_length_more);
    add(&head, "\r\n");
    if (send_all(fd, head.bytes, head.n_bytes))
        send_body(server, page, fd, i_body, bytes, n_bytes);
    prx_str_release(&head);
}

static void *run_visit(void *ctx)
{
    struct visit *visit = ctx;
    struct http_server *server = visit->server;
    char head[8192], path[1024];
    struct http_page *found = NULL;

    if (read_head(visit->fd, head, sizeof(head)) &&
        sscanf(head, "GET %1023s", path) == 1) {
        path[strcspn(path, "?")] = '\0';
        for (size_t i = 0; i < server->n_pages && !found; i++)
            if (strcmp(server->pages[i].path, path) == 0)
                found = &server->pages[i];
        if (found)
            serve(server, found, visit->fd, head);
        else
            send_short(visit->fd, NULL, 404);
    }
    shutdown(visit->fd, SHUT_WR);
    close(visit->fd);
    free(visit);
    atomic_fetch_sub(&server->n_open, 1);
    return NULL;
}

static void *run_server(void *ctx)
{
    struct http_server *server = ctx;

    while (!atomic_load(&server->is_closed)) {
        struct pollfd ready = {.fd = server->listener, .events = POLLIN};
        if (poll(&ready, 1, 20) <= 0)
            continue;
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            continue;
        struct timeval limit = {.tv_sec = 10};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        struct visit *visit = malloc(sizeof(*visit));
        need(visit != NULL);
        *visit = (struct visit){server, fd};
        pthread_t thread;
        atomic_fetch_add(&server->n_open, 1);
        need(pthread_create(&thread, NULL, run_visit, visit) == 0);
        pthread_detach(thread);
    }
    return NULL;
}

struct http_server *http_server_open(struct http_page *pages, size_t n_pages)
{
    struct http_server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n_address = sizeof(address);

    need(server != NULL);
    need(setenv("no_proxy", "*", 1) == 0); /* whatever the environment says */
    server->pages = pages;
    server->n_pages = n_pages;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(server->listener >= 0);
    need(bind(server->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    need(listen(server->listener, 64) == 0);
    need(getsockname(server->listener, (struct sockaddr *)&address, &n_address) == 0);
    server->port = ntohs(address.sin_port);
    need(pthread_create(&server->thread, NULL, run_server, server) == 0);
    return server;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

char *http_server_url(const struct http_server *server, const char *path)
{
    struct prx_str url = {0};

    add(&url, "http://127.0.0.1:%d%s", server->port, path);
    return url.bytes;
}

void http_server_close(struct http_server *server)
{
    if (!server)
        return;
    atomic_store(&server->is_closed, true);
    pthread_join(server->thread, NULL);
    close(server->listener);
    while (atomic_load(&server->n_open) > 0)
        pause_ms(5);
    free(server);
}
