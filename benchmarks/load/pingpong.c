/* Connections with one message outstanding each; what comes back must be what was sent, as many
 * times as an answer has it. */
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
    if (send(connection->fd, connection->message, size, 0) != (ssize_t)size) {
        error("a message was not taken whole: %s", strerror(errno));
        lose(connection);
    }
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
            ssize_t got = recv(one->fd, buffer, whole - one->got, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            if (got <= 0)
                error("the server closed: %s", got ? strerror(errno) : "end of file");
            else if (memcmp(buffer, one->message + one->got, (size_t)got) != 0)
                error("other bytes came back than were sent");
            else if ((one->got += (size_t)got) < whole)
                continue;
            else {
                clock = now();
                if (end) {
                    report_latency(report, clock - one->sent_at);
                    report->operations++;
                    report->bytes += whole;
                }
                send_next(one, options);
                left -= one->fd < 0;
                continue;
            }
            lose(one);
            left--;
        }
        if (left <= 0)
            die_of_errors();
    }
    report_close(report, options);
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
    }
    exchange(connections, options, &report);
    report_print(&report);
}
