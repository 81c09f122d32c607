/* echo_tls PORT tls=CERTIFICATE: OpenSSL on epoll in C, level-triggered, one thread. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
    int fd;
    SSL *ssl;
    size_t held; /* bytes that a slow reader has not taken yet; it is not read while there are some */
    char bytes[SSL3_RT_MAX_PLAIN_LENGTH];
};

static int epoll;

static void watch(int operation, struct peer *peer, uint32_t what)
{
    struct epoll_event event = {.events = what, .data.ptr = peer};
    epoll_ctl(epoll, operation, peer->fd, &event);
}

static void end(struct peer *peer)
{
    /* Or OpenSSL takes the session for broken, and does not resume it. */
    SSL_set_shutdown(peer->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer);
}

/* Echo what there is. SSL_read(3) and SSL_write(3) shake hands by themselves. */
static void serve(struct peer *peer)
{
    int waited = peer->held > 0, result = 1;
    ERR_clear_error();
    do {
        if (!peer->held) {
            if ((result = SSL_read(peer->ssl, peer->bytes, sizeof peer->bytes)) > 0)
                peer->held = (size_t)result;
        }
        if (peer->held && (result = SSL_write(peer->ssl, peer->bytes, (int)peer->held)) > 0)
            peer->held = 0;
    } while (result > 0 && SSL_has_pending(peer->ssl));
    int why = result > 0 ? SSL_ERROR_NONE : SSL_get_error(peer->ssl, result);
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        end(peer);
    else if (waited != (peer->held > 0))
        watch(EPOLL_CTL_MOD, peer, peer->held ? EPOLLOUT : EPOLLIN);
}

static void accept_all(int listener, SSL_CTX *context)
{
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = malloc(sizeof *peer);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        peer->fd = fd;
        peer->held = 0;
        peer->ssl = SSL_new(context);
        SSL_set_fd(peer->ssl, fd);
        SSL_set_accept_state(peer->ssl);
        watch(EPOLL_CTL_ADD, peer, EPOLLIN);
    }
}

int main(int count, char **arguments)
{
    struct epoll_event events[256], event = {.events = EPOLLIN};
    struct sockaddr_in address = {.sin_family = AF_INET};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (count < 3 || strncmp(arguments[2], "tls=", 4) != 0)
        return 2;
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2] + 4) != 1
        || SSL_CTX_use_PrivateKey_file(context, arguments[2] + 4, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    SSL_CTX_set_read_ahead(context, 1);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
        perror("echo_tls");
        return 1;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                serve(events[i].data.ptr);
            else
                accept_all(listener, context);
    }
}
