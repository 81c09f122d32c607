/* echo_epoll PORT|PATH [echo|unix|hello|lines=N]: epoll in C, level-triggered, one thread. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES 65536
#define GREETING "Hello, world!\n"

/* What a slow reader has not taken yet. While there is some, its connection is not read. */
static struct { char *bytes; size_t size; } pending[FILES];
static char buffer[262144];
static int epoll, writes = 1; /* for each read */

static void watch(int operation, int fd, uint32_t what)
{
    struct epoll_event event = {.events = what, .data.fd = fd};
    epoll_ctl(epoll, operation, fd, &event);
}

static void end(int fd)
{
    free(pending[fd].bytes);
    pending[fd].bytes = NULL;
    close(fd);
}

static void readable(int fd)
{
    ssize_t got = recv(fd, buffer, sizeof buffer, 0), sent;
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end(fd);
        return;
    }
    for (int left = writes; left > 0; left--) {
        if ((sent = send(fd, buffer, (size_t)got, MSG_NOSIGNAL)) == got)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            end(fd);
            return;
        }
        sent = sent < 0 ? 0 : sent;
        /* The rest of this one, and those that would have followed. */
        pending[fd].size = (size_t)got * (size_t)left - (size_t)sent;
        char *to = pending[fd].bytes = malloc(pending[fd].size);
        to = mempcpy(to, buffer + sent, (size_t)(got - sent));
        while (--left > 0)
            to = mempcpy(to, buffer, (size_t)got);
        watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
    }
}

static void writable(int fd)
{
    ssize_t sent = send(fd, pending[fd].bytes, pending[fd].size, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            end(fd);
        return;
    }
    pending[fd].size -= (size_t)sent;
    if (pending[fd].size) {
        memmove(pending[fd].bytes, pending[fd].bytes + sent, pending[fd].size);
        return;
    }
    free(pending[fd].bytes);
    pending[fd].bytes = NULL;
    watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void accept_all(int listener, int hello)
{
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (hello) {
            send(fd, GREETING, strlen(GREETING), MSG_NOSIGNAL);
            close(fd);
        } else if (fd >= FILES) {
            close(fd);
        } else {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            watch(EPOLL_CTL_ADD, fd, EPOLLIN);
        }
    }
}

/* A listening socket on the port, or on the path of a Unix socket. */
static int listening(const char *where, int on_path)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    int one = 1, bound;
    int fd = socket(on_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (on_path) {
        strncpy(path.sun_path, where, sizeof path.sun_path - 1);
        bound = bind(fd, (struct sockaddr *)&path, sizeof path);
    } else {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons((uint16_t)atoi(where));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        bound = bind(fd, (struct sockaddr *)&address, sizeof address);
    }
    if (bound < 0 || listen(fd, 4096) < 0) {
        perror("echo_epoll");
        exit(1);
    }
    return fd;
}

int main(int count, char **arguments)
{
    struct epoll_event events[256];
    const char *mode = count > 2 ? arguments[2] : "echo";
    int hello = strcmp(mode, "hello") == 0, listener;

    if (count < 2)
        return 2;
    sscanf(mode, "lines=%d", &writes);
    listener = listening(arguments[1], strcmp(mode, "unix") == 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener, hello);
            else if (pending[fd].bytes)
                writable(fd);
            else
                readable(fd);
        }
    }
}
