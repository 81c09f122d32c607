/* Many connections that exchange one message each and then idle; the last of them goes on.
 * Prints "opened" when all are there, and waits for a line before it goes on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "load.h"

void idle(const struct options *options)
{
    struct options one = *options;
    struct connection active;
    struct report report;
    char line[16];
    int fd = -1;

    for (int i = 0; i < options->connections; i++) {
        char byte = 'x';
        /* The answer proves that the server accepted and serves it: a connection in the backlog
         * would cost it nothing. */
        if ((fd = dial(options, 0)) < 0 || send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
            die("connection %d of %d: %s", i + 1, options->connections, strerror(errno));
    }
    puts("opened");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        die("the runner is gone");
    one.connections = 1;
    connection_init(&active, fd, 0, options);
    exchange(&active, &one, &report);
    report_print(&report);
}
