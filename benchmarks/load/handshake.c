/* Connect, shake hands, exchange one byte, close; so many at all times. The byte's answer proves that
 * the server has finished its handshake, and comes after the tickets for the next one: RFC 8446. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

struct visit {
    int fd, asked;
    SSL *ssl;
    SSL_SESSION *session; /* the newest ticket; each is used once */
    uint64_t began;
};

static void begin(struct visit *visit, int epoll, const struct options *options)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = visit};
    visit->began = now();
    visit->asked = 0;
    if ((visit->fd = dial(options, SOCK_NONBLOCK)) < 0)
        die("a connection could not be begun: %s", strerror(errno));
    visit->ssl = tls_begin(visit->fd, options->resume ? &visit->session : NULL);
    epoll_ctl(epoll, EPOLL_CTL_ADD, visit->fd, &event);
}

/* Go on as far as the socket lets it. Return whether the visit is over, well or with an error. */
static int over(struct visit *visit, int must_resume)
{
    char byte = 'x';
    ssize_t result = visit->asked ? 1 : tls_shake_hands(visit->ssl);
    if (result > 0 && !visit->asked) {
        if (must_resume && !tls_resumed(visit->ssl))
            error("the server did not resume the session");
        result = tls_write(visit->ssl, &byte, 1);
        visit->asked = 1;
    }
    if (result > 0)
        result = tls_read(visit->ssl, &byte, 1);
    if (result < 0 && errno == EAGAIN)
        return 0;
    if (result <= 0)
        error("the handshake failed: %s", result ? strerror(errno) : "end of file");
    else if (byte != 'x')
        error("another byte came back than was sent");
    return 1;
}

void handshake(const struct options *options)
{
    struct report report = {0};
    struct epoll_event events[64];
    struct visit *visits = calloc((size_t)options->connections, sizeof *visits);
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
        int count = epoll_wait(epoll, events, 64, 10);
        for (int i = 0; i < count; i++) {
            struct visit *visit = events[i].data.ptr;
            /* The first of each is a full one, however short the warm-up. */
            if (!over(visit, visit->session != NULL))
                continue;
            tls_end(visit->ssl);
            close(visit->fd);
            report_latency(&report, now() - visit->began);
            report.operations++;
            begin(visit, epoll, options);
        }
        clock = now();
    }
    report_close(&report, options);
    report_print(&report);
}
