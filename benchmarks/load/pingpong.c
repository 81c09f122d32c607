/* Connections, or UDP sockets, with one message outstanding each; what comes back must be what was
 * sent, as many times as an answer has it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

void connection_init(struct connection *connection, int fd, int number,
                     const struct options *options)
{
    *connection = (struct connection){.fd = fd, .sequence = (uint64_t)number << 40};
    connection->message = malloc(options->size * options->copies);
    for (size_t i = 0; i < options->size * options->copies; i++)
        connection->message[i] =
            (unsigned char)(i % options->size * 131 + (size_t)number * 17);
}

static void lose(struct connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
}

static void send_next(struct connection *connection, const struct options *options)
{
    size_t size = options->size;
    /* Every message differs from the one before and from the other connections'. */
    connection->sequence++;
    for (size_t copy = 0; copy < options->copies; copy++)
        memcpy(connection->message + copy * size, &connection->sequence,
               size < sizeof connection->sequence ? size : sizeof connection->sequence);
    connection->got = 0;
    connection->sent_at = now();
    /* The socket's buffer is empty here, so a message that fits it goes out whole. */
    if (give(connection->fd, connection->ssl, connection->message, size) != (ssize_t)size) {
        error("a message was not taken whole: %s", strerror(errno));
        lose(connection);
    }
}

/* Take what has come of an answer. Return 1 if it is whole, 0 if not yet, and -1 if it is wrong. */
static int answered(struct connection *connection, unsigned char *buffer, size_t whole)
{
    do {
        ssize_t got = take(connection->fd, connection->ssl, buffer, whole - connection->got);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (got <= 0)
            error("the server closed: %s", got ? strerror(errno) : "end of file");
        else if (memcmp(buffer, connection->message + connection->got, (size_t)got) != 0)
            error("other bytes came back than were sent");
        else if ((connection->got += (size_t)got) == whole)
            return 1;
        else
            continue;
        return -1;
    } while (connection->ssl && tls_pending(connection->ssl));
    return 0;
}

/* A datagram may be lost; then its connection would be silent, and no error. */
static void expect_the_last(int epoll, unsigned char *buffer, size_t whole, int left)
{
    struct epoll_event event;
    while (left > 0 && epoll_wait(epoll, &event, 1, 1000) > 0)
        if (answered(event.data.ptr, buffer, whole))
            left--;
    if (left > 0)
        error("%d of the last datagrams were not answered within a second", left);
}

/* Run the messages of already connected sockets, warm-up first, then measured. */
void exchange(struct connection *connections, const struct options *options, struct report *report)
{
    struct epoll_event events[256];
    size_t whole = options->size * options->copies;
    unsigned char *buffer = malloc(whole);
    int epoll = epoll_create1(0), left = options->connections;
    uint64_t clock = now(), turn = clock + (uint64_t)(options->warmup * 1e9), end = 0;

    for (int i = 0; i < options->connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event);
        send_next(&connections[i], options);
        left -= connections[i].fd < 0;
    }
    for (;;) {
        if (clock >= turn) {
            if (end)
                break;
            report_open(report, options);
            turn = end = report->started + (uint64_t)(options->seconds * 1e9);
        }
        int count = epoll_wait(epoll, events, 256, 10);
        clock = now();
        for (int i = 0; i < count; i++) {
            struct connection *one = events[i].data.ptr;
            int state = answered(one, buffer, whole);
            if (state > 0) {
                clock = now();
                if (end) {
                    report_latency(report, clock - one->sent_at);
                    report->operations++;
                    report->bytes += whole;
                }
                send_next(one, options);
            } else if (state < 0)
                lose(one);
            left -= state && one->fd < 0;
        }
        if (left <= 0)
            die_of_errors();
    }
    report_close(report, options);
    if (options->udp)
        expect_the_last(epoll, buffer, whole, left);
}

void pingpong(const struct options *options)
{
    struct report report;
    struct connection *connections = calloc((size_t)options->connections, sizeof *connections);
    for (int i = 0; i < options->connections; i++) {
        int fd = dial(options, 0);
        if (fd < 0)
            die("connection %d: %s", i + 1, strerror(errno));
        connection_init(&connections[i], fd, i, options);
        connections[i].ssl = options->tls ? tls_open(fd) : NULL;
    }
    exchange(connections, options, &report);
    report_print(&report);
}
