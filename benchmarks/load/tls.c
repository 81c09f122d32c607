/* TLS for the load: a client that asks for TLS 1.3 and trusts every certificate. Without OpenSSL's
 * headers the functions are there, and say so. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "load.h"

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    SSL_SESSION **place = SSL_get_app_data(ssl);
    if (!place)
        return 0;
    SSL_SESSION_free(*place);
    *place = session;
    return 1; /* the reference is ours now */
}

static SSL_CTX *context(void)
{
    static SSL_CTX *made;
    if (!made) {
        made = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
        SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        /* One recv(2) for many records; see tls_pending(). */
        SSL_CTX_set_read_ahead(made, 1);
        SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(made, keep_session);
    }
    return made;
}

/* As recv(2) and send(2) tell it: 0 is the end, and EAGAIN says that the socket has to be waited for. */
static ssize_t told(SSL *ssl, int result)
{
    if (result > 0)
        return result;
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: errno = errno ? errno : ECONNRESET; return -1;
    default: errno = EPROTO; return -1;
    }
}

SSL *tls_begin(int fd, SSL_SESSION **session)
{
    SSL *ssl = SSL_new(context());
    if (!ssl || !SSL_set_fd(ssl, fd))
        die("OpenSSL has no memory");
    SSL_set_connect_state(ssl);
    SSL_set_app_data(ssl, session);
    if (session && *session)
        SSL_set_session(ssl, *session);
    return ssl;
}

ssize_t tls_shake_hands(SSL *ssl)
{
    ERR_clear_error();
    return told(ssl, SSL_do_handshake(ssl));
}

ssize_t tls_read(SSL *ssl, void *to, size_t size)
{
    ERR_clear_error();
    return told(ssl, SSL_read(ssl, to, (int)size));
}

ssize_t tls_write(SSL *ssl, const void *from, size_t size)
{
    ERR_clear_error();
    return told(ssl, SSL_write(ssl, from, (int)size));
}

int tls_pending(const SSL *ssl)
{
    return SSL_has_pending(ssl);
}

int tls_resumed(const SSL *ssl)
{
    return SSL_session_reused(ssl);
}

void tls_end(SSL *ssl)
{
    /* OpenSSL does not resume a session whose connection seems to have been cut. */
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}
#else
SSL *tls_begin(int fd, SSL_SESSION **session)
{
    (void)fd, (void)session;
    die("this load generator was built without OpenSSL");
}
ssize_t tls_shake_hands(SSL *ssl) { (void)ssl; return -1; }
ssize_t tls_read(SSL *ssl, void *to, size_t size) { (void)ssl, (void)to, (void)size; return -1; }
ssize_t tls_write(SSL *ssl, const void *from, size_t size) { (void)ssl, (void)from, (void)size; return -1; }
int tls_pending(const SSL *ssl) { (void)ssl; return 0; }
int tls_resumed(const SSL *ssl) { (void)ssl; return 0; }
void tls_end(SSL *ssl) { (void)ssl; }
#endif

SSL *tls_open(int fd)
{
    SSL *ssl = tls_begin(fd, NULL);
    if (tls_shake_hands(ssl) <= 0)
        die("the TLS handshake failed");
    /* Tickets come after the handshake: to read one and then wait would stall the load. */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return ssl;
}
