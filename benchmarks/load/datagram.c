/* Unix datagrams as fast as the server reads them. The kernel's queue is short and a blocking
 * send(2) waits for room in it, so nothing is lost and the server sets the pace: unix(7). */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "load.h"

/* Wait until the server has read everything: what is unread is charged to the sender. */
static void drain(int fd)
{
    int unread = 0;
    while (ioctl(fd, SIOCOUTQ, &unread) == 0 && unread > 0)
        usleep(100);
}

static uint64_t send_for(int fd, const unsigned char *bytes, size_t size, double seconds)
{
    uint64_t sent = 0, end = now() + (uint64_t)(seconds * 1e9);
    while (now() < end)
        for (int i = 0; i < 16; i++, sent++)
            if (send(fd, bytes, size, 0) != (ssize_t)size)
                die("a datagram was not taken: %s", strerror(errno));
    drain(fd);
    return sent;
}

void datagram(const struct options *options)
{
    struct report report;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    unsigned char *bytes = malloc(options->size);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    if (!options->path || strlen(options->path) >= sizeof to.sun_path)
        die("--path must be the path of a Unix socket");
    strcpy(to.sun_path, options->path);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("%s: %s", options->path, strerror(errno));
    for (size_t i = 0; i < options->size; i++)
        bytes[i] = (unsigned char)(i * 131 + 7);
    send_for(fd, bytes, options->size, options->warmup);
    report_open(&report, options);
    report.operations = send_for(fd, bytes, options->size, options->seconds);
    report.bytes = report.operations * options->size;
    report_close(&report, options);
    report_print(&report);
}
