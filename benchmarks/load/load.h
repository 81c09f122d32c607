/* What the modes of the load generator share: options, clocks, a histogram, the report. */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct options {
    int port;          /* TCP port on 127.0.0.1 */
    const char *path;  /* Unix datagram socket */
    int connections;
    size_t size;       /* bytes a message, block or datagram */
    size_t copies;     /* of the message, that make a whole answer */
    double warmup;     /* seconds, not measured */
    double seconds;    /* measured */
    pid_t pid;         /* the server, for its CPU clock */
    const char *expect; /* the whole answer, in connect */
};

/* HDR-like: 64 steps a power of two, so a latency is off by less than 1.6 per cent. */
#define STEPS 64
struct report {
    uint64_t operations, bytes;
    uint64_t started, ended; /* ns, monotonic */
    uint64_t server_cpu, load_cpu; /* ns; differences once closed */
    uint64_t samples, longest, histogram[STEPS * 60];
};

uint64_t now(void);
void report_open(struct report *, const struct options *);
void report_close(struct report *, const struct options *);
void report_latency(struct report *, uint64_t ns);
void report_print(const struct report *);

/* An error that the run survives: counted, and the first one told in the report. */
void error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* To be called when no connection is left: tells the first error, and ends. */
void die_of_errors(void) __attribute__((noreturn));
/* One line on standard error, and the end. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A socket bound to one of 127.0.0.2 to 127.0.0.251 in turn, connected or connecting to the port.
 * The source addresses take turns so that ports do not run out while the server's side of closed
 * connections is in TIME_WAIT. Returns -1 with errno. */
int dial(const struct options *, int flags);

struct connection {
    int fd;
    size_t got;
    uint64_t sequence, sent_at;
    unsigned char *message; /* as often as the answer has it */
};
void exchange(struct connection *, const struct options *, struct report *);
void connection_init(struct connection *, int fd, int number, const struct options *);

void pingpong(const struct options *);
void stream(const struct options *);
void connects(const struct options *);
void datagram(const struct options *);
void idle(const struct options *);

#endif
