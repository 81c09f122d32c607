/* Connect, read the answer to its end, close; so many at all times. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

struct visit {
    int fd;
    size_t got;
    uint64_t began;
};

static void begin(struct visit *visit, int epoll, const struct options *options)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = visit};
    *visit = (struct visit){.began = now()};
    if ((visit->fd = dial(options, SOCK_NONBLOCK)) < 0)
        die("a connection could not be begun: %s", strerror(errno));
    epoll_ctl(epoll, EPOLL_CTL_ADD, visit->fd, &event);
}

/* Read what there is. Return whether the visit is over. */
static int over(struct visit *visit, const char *expect, size_t length)
{
    char buffer[4096];
    for (;;) {
        ssize_t got = recv(visit->fd, buffer, sizeof buffer, 0);
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0)
            error("a connection failed: %s", strerror(errno));
        else if (got == 0 && visit->got != length)
            error("the answer had %zu bytes and not %zu", visit->got, length);
        else if (visit->got + (size_t)got > length || memcmp(buffer, expect + visit->got, (size_t)got))
            error("another answer came than was expected");
        else if (got > 0) {
            visit->got += (size_t)got;
            continue;
        }
        return 1;
    }
}

void connects(const struct options *options)
{
    struct report report = {0};
    struct epoll_event events[256];
    struct visit *visits = calloc((size_t)options->connections, sizeof *visits);
    const char *expect = options->expect ? options->expect : "Hello, world!\n";
    size_t length = strlen(expect);
    int epoll = epoll_create1(0), measuring = 0;
    uint64_t clock = now(), turn = clock + (uint64_t)(options->warmup * 1e9);

    for (int i = 0; i < options->connections; i++)
        begin(&visits[i], epoll, options);
    for (;;) {
        if (clock >= turn) {
            if (measuring++)
                break;
            report_open(&report, options);
            turn = report.started + (uint64_t)(options->seconds * 1e9);
        }
        int count = epoll_wait(epoll, events, 256, 10);
        for (int i = 0; i < count; i++) {
            struct visit *visit = events[i].data.ptr;
            if (!over(visit, expect, length))
                continue;
            close(visit->fd);
            report_latency(&report, now() - visit->began);
            report.operations++;
            report.bytes += length;
            begin(visit, epoll, options);
        }
        clock = now();
    }
    report_close(&report, options);
    report_print(&report);
}
