/* load MODE --port N | --path PATH [--connections N] [--size BYTES] [--warmup S] [--seconds S]
 *           [--pid PID] [--expect TEXT] [--copies N] [--rate N] [--udp | --tls [--resume]]
 * Loads one server from one thread, and prints one line of JSON. */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "load.h"

static void be_patient(int fd)
{
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

static int dial_path(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (strlen(path) >= sizeof to.sun_path)
        die("%s: the path of a Unix socket is shorter", path);
    strcpy(to.sun_path, path);
    be_patient(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

int dial(const struct options *options, int flags)
{
    if (options->path)
        return dial_path(options->path);

    static unsigned turn;
    int one = 1, fd = socket(AF_INET, (options->udp ? SOCK_DGRAM : SOCK_STREAM) | flags, 0);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;

    if (fd < 0)
        return -1;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 250);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)options->port);
    /* A visit needs none of these, and there the load is the busier side. */
    if (!(flags & SOCK_NONBLOCK)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        be_patient(fd);
    }
    /* The port is chosen at connect(2), when the peer is known: ip(7). */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) {
        close(fd);
        return -1;
    }
    /* Without SOCK_NONBLOCK the caller meets errno; with it, the event that says how it went. */
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && !(flags & SOCK_NONBLOCK)) {
        close(fd);
        return -1;
    }
    return fd;
}

int main(int count, char **arguments)
{
    static const struct option known[] = {
        {"port", 1, 0, 'p'},    {"path", 1, 0, 'u'},    {"connections", 1, 0, 'c'},
        {"size", 1, 0, 'b'},    {"warmup", 1, 0, 'w'},  {"seconds", 1, 0, 's'},
        {"pid", 1, 0, 'i'},     {"expect", 1, 0, 'e'},  {"copies", 1, 0, 'n'},
        {"rate", 1, 0, 'r'},    {"udp", 0, 0, 'd'},     {"tls", 0, 0, 't'},
        {"resume", 0, 0, 'm'},  {0}};
    static const struct { const char *name; void (*run)(const struct options *); } modes[] = {
        {"pingpong", pingpong}, {"stream", stream}, {"connect", connects},
        {"datagram", datagram}, {"idle", idle}, {"flood", flood}, {"handshake", handshake}};
    struct options options = {
        .connections = 1, .size = 64, .copies = 1, .warmup = .2, .seconds = 1};
    struct rlimit files;
    int letter;

    while ((letter = getopt_long(count, arguments, "", known, 0)) != -1)
        switch (letter) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'b': options.size = (size_t)atol(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'i': options.pid = (pid_t)atol(optarg); break;
        case 'e': options.expect = optarg; break;
        case 'n': options.copies = (size_t)atol(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'd': options.udp = 1; break;
        case 't': options.tls = 1; break;
        case 'm': options.resume = 1; break;
        default: return 2;
        }
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    /* Whatever a server does, this process does not stay. */
    alarm((unsigned)(options.warmup + options.seconds) + 60);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (optind < count && strcmp(arguments[optind], modes[i].name) == 0) {
            modes[i].run(&options);
            return 0;
        }
    die("the mode is one of pingpong, stream, connect, datagram, idle, flood, handshake");
}
