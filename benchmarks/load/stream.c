/* Connections that write blocks as fast as they are taken, and read them back meanwhile.
 * An operation is one block's worth of bytes that came back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

/* A prime, so that a block lost, doubled or moved shows. */
#define PERIOD 65537
#define READ 262144
#define CHECKED 64

struct flow {
    int fd;
    SSL *ssl;
    uint64_t sent, read; /* positions in the stream */
};

static unsigned char pattern[PERIOD + READ], buffer[READ];

static int same(uint64_t position, const unsigned char *bytes, size_t size)
{
    return memcmp(bytes, pattern + position % PERIOD, size) == 0;
}

/* Both ends of every read are compared: to compare all would make the load the slower side. */
static int read_once(struct flow *flow, struct report *report)
{
    ssize_t got = take(flow->fd, flow->ssl, buffer, READ);
    if (got < 0 && errno == EAGAIN)
        return 1;
    if (got <= 0) {
        error("the server closed: %s", got ? strerror(errno) : "end of file");
        return 0;
    }
    size_t checked = got < CHECKED ? (size_t)got : CHECKED, last = (size_t)got - checked;
    if (!same(flow->read, buffer, checked) || !same(flow->read + last, buffer + last, checked)) {
        error("other bytes came back than were sent");
        return 0;
    }
    flow->read += (uint64_t)got;
    report->bytes += (uint64_t)got;
    return 1;
}

static int read_some(struct flow *flow, struct report *report)
{
    int fine;
    do {
        errno = 0;
        fine = read_once(flow, report);
    } while (fine && flow->ssl && tls_pending(flow->ssl) && errno != EAGAIN);
    return fine;
}

static int write_some(struct flow *flow, size_t size)
{
    ssize_t sent = give(flow->fd, flow->ssl, pattern + flow->sent % PERIOD, size);
    if (sent < 0 && errno != EAGAIN) {
        error("the server closed: %s", strerror(errno));
        return 0;
    }
    flow->sent += sent > 0 ? (uint64_t)sent : 0;
    return 1;
}

void stream(const struct options *options)
{
    struct report report = {0};
    struct epoll_event events[256];
    struct flow *flows = calloc((size_t)options->connections, sizeof *flows);
    int epoll = epoll_create1(0), left = options->connections, measuring = 0;
    uint32_t noise = 1;

    if (options->size > READ)
        die("a block has at most %d bytes", READ);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i < PERIOD ? (unsigned char)((noise = noise * 1664525 + 1013904223) >> 24)
                                : pattern[i - PERIOD];
    for (int i = 0; i < options->connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = &flows[i]};
        if ((flows[i].fd = dial(options, 0)) < 0)
            die("connection %d: %s", i + 1, strerror(errno));
        flows[i].ssl = options->tls ? tls_open(flows[i].fd) : NULL;
        fcntl(flows[i].fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(epoll, EPOLL_CTL_ADD, flows[i].fd, &event);
    }
    uint64_t turn = now() + (uint64_t)(options->warmup * 1e9);
    for (;;) {
        if (now() >= turn) {
            if (measuring++)
                break;
            report_open(&report, options);
            turn = report.started + (uint64_t)(options->seconds * 1e9);
        }
        int count = epoll_wait(epoll, events, 256, 10);
        for (int i = 0; i < count; i++) {
            struct flow *flow = events[i].data.ptr;
            int fine = !(events[i].events & ~(uint32_t)EPOLLOUT) || read_some(flow, &report);
            if (fine && events[i].events & EPOLLOUT)
                fine = write_some(flow, options->size);
            if (!fine) {
                close(flow->fd);
                left--;
            }
        }
        if (left <= 0)
            die_of_errors();
    }
    report_close(&report, options);
    report.operations = report.bytes / options->size;
    report_print(&report);
}
