/* What the modes of the load generator share: options, clocks, a histogram, the report. */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct options {
    int port;          /* TCP port on 127.0.0.1 */
    const char *path;  /* Unix socket, instead of the port */
    int connections;
    size_t size;       /* bytes a message, block or datagram */
    size_t copies;     /* of the message, that make a whole answer */
    double warmup;     /* seconds, not measured */
    double seconds;    /* measured */
    pid_t pid;         /* the server, for its CPU clock */
    const char *expect; /* the whole answer, in connect */
    double rate;       /* datagrams a second, in flood */
    int udp, tls;      /* instead of plain TCP */
    int resume;        /* TLS sessions, in handshake */
};

/* HDR-like: 64 steps a power of two, so a latency is off by less than 1.6 per cent. */
#define STEPS 64
struct report {
    uint64_t operations, bytes, lost;
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

/* A socket connected or connecting to the path or the port; that of the port is bound to one of
 * 127.0.0.2 to 127.0.0.251 in turn. The source addresses take turns so that ports do not run out while the server's side of closed
 * connections is in TIME_WAIT. Returns -1 with errno. */
int dial(const struct options *, int flags);

/* OpenSSL's own names; tls.c has the only code that knows more of them. */
typedef struct ssl_st SSL;
typedef struct ssl_session_st SSL_SESSION;

/* A TLS connection on a connected socket, after its handshake; the socket does not block any more. */
SSL *tls_open(int fd);
/* The steps of the same, for sockets that do not block. They return what recv(2) and send(2) would.
 * SESSION is where the session to resume is, and where the server's next one goes. */
SSL *tls_begin(int fd, SSL_SESSION **session);
ssize_t tls_shake_hands(SSL *);
ssize_t tls_read(SSL *, void *, size_t);
ssize_t tls_write(SSL *, const void *, size_t);
/* Whether bytes have been read from the socket that epoll does not tell of any more. */
int tls_pending(const SSL *);
int tls_resumed(const SSL *);
void tls_end(SSL *);

static inline ssize_t take(int fd, SSL *ssl, void *to, size_t size)
{
    return ssl ? tls_read(ssl, to, size) : recv(fd, to, size, 0);
}

static inline ssize_t give(int fd, SSL *ssl, const void *from, size_t size)
{
    return ssl ? tls_write(ssl, from, size) : send(fd, from, size, 0);
}

struct connection {
    int fd;
    SSL *ssl; /* with TLS */
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
void flood(const struct options *);
void handshake(const struct options *);

#endif
