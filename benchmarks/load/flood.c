/* UDP datagrams at a steady rate, whether or not the server can read them. An operation is one that
 * it read: what the kernel dropped because the queue of its socket was full does not count. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

struct queue {
    uint64_t waiting, dropped; /* bytes; datagrams */
};

/* The server's socket in /proc/net/udp, which names it by its local port: proc(5). */
static struct queue look(int port)
{
    FILE *file = fopen("/proc/net/udp", "r");
    char line[512];
    struct queue queue = {0};
    int found = 0;

    while (file && fgets(line, sizeof line, file)) {
        unsigned local, state;
        unsigned long long waiting, dropped;
        if (sscanf(line, "%*d: %*x:%x %*x:%*x %x %*x:%llx %*x:%*x %*x %*u %*d %*u %*d %*x %llu",
                   &local, &state, &waiting, &dropped) == 4
            && (int)local == port) {
            queue = (struct queue){waiting, dropped};
            found = 1;
        }
    }
    if (file)
        fclose(file);
    if (!found)
        die("the server's UDP socket is gone");
    return queue;
}

/* Wait until the server has read what is in its queue. */
static struct queue drained(int port)
{
    uint64_t end = now() + 10000000000u;
    struct queue queue = look(port);
    while (queue.waiting) {
        if (now() > end)
            die("the server did not read its datagrams within 10 seconds");
        usleep(100);
        queue = look(port);
    }
    return queue;
}

static uint64_t send_for(int fd, const void *bytes, const struct options *options, double seconds)
{
    uint64_t sent = 0, began = now(), end = began + (uint64_t)(seconds * 1e9), clock;
    while ((clock = now()) < end) {
        uint64_t due = (uint64_t)((double)(clock - began) / 1e9 * options->rate);
        /* After a pause of this process the rest is not sent in one burst. */
        for (int i = 0; i < 16 && sent < due; i++, sent++)
            if (send(fd, bytes, options->size, 0) < 0)
                die("a datagram was not sent: %s", strerror(errno));
    }
    return sent;
}

void flood(const struct options *options)
{
    struct report report;
    unsigned char *bytes = calloc(options->size, 1);
    int fd = dial(options, 0);

    if (fd < 0)
        die("port %d: %s", options->port, strerror(errno));
    send_for(fd, bytes, options, options->warmup);
    uint64_t before = drained(options->port).dropped;
    report_open(&report, options);
    uint64_t sent = send_for(fd, bytes, options, options->seconds);
    uint64_t dropped = drained(options->port).dropped - before;
    report_close(&report, options);
    report.operations = sent - dropped;
    report.bytes = report.operations * options->size;
    report.lost = dropped;
    report_print(&report);
}
