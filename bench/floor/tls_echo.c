/* A bare TLS echo server: epoll and libssl, and nothing else. What a loop needs more than this is the loop's own.
 *
 *     tls_echo CERTIFICATE KEY
 *
 * It prints its address as a line of JSON, and ends with its input. Sockets are libssl's own (SSL_set_fd), read ahead, so
 * that a small message costs one recv and one send, and its buffers are kept between messages.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, BACKLOG = 1024, BUFFER_BYTES = 256 * 1024, RECORD_BYTES = 16 * 1024 };

/* A connection, and what of the last message is still to be written. */
struct connection {
    SSL *ssl;
    int fd;
    size_t begin, end;
    unsigned char buffer[BUFFER_BYTES];
};

static int epoll_fd;
static SSL_CTX *context;

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void watch(int operation, int fd, uint32_t events, void *of) {
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0) fail("epoll_ctl");
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN) return;
            fail("accept4");
        }
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *connection = malloc(sizeof *connection);
        if (connection == NULL || (connection->ssl = SSL_new(context)) == NULL) fail("a connection");
        connection->fd = fd;
        connection->begin = connection->end = 0;
        SSL_set_accept_state(connection->ssl);
        SSL_set_read_ahead(connection->ssl, 1);
        SSL_set_mode(connection->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (SSL_set_fd(connection->ssl, fd) != 1) fail("SSL_set_fd");
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
}

static void finish(struct connection *connection) {
    SSL_shutdown(connection->ssl);
    SSL_free(connection->ssl);
    close(connection->fd);
    free(connection);
}

/* Writes what is left; whether all of it is gone. */
static int write_rest(struct connection *connection) {
    while (connection->begin < connection->end) {
        size_t written;
        if (SSL_write_ex(connection->ssl, connection->buffer + connection->begin, connection->end - connection->begin,
                         &written) != 1)
            return 0;
        connection->begin += written;
    }
    connection->begin = connection->end = 0;
    return 1;
}

/* Reads until libssl has no more, or the buffer is full; the last answer of SSL_read_ex. */
static int read_some(struct connection *connection, int *is_all) {
    size_t count = 0;
    while (connection->end < BUFFER_BYTES) {
        int answer = SSL_read_ex(connection->ssl, connection->buffer + connection->end,
                                 BUFFER_BYTES - connection->end, &count);
        if (answer != 1) return answer;
        connection->end += count;
        /* After a short record nothing more is expected: epoll tells of what comes. */
        *is_all = count < RECORD_BYTES && !SSL_has_pending(connection->ssl);
        if (*is_all) return 1;
    }
    return 1;
}

static void act(struct connection *connection) {
    int was_full = connection->end > 0;
    ERR_clear_error();
    for (int is_all = 0;;) {
        if (!write_rest(connection)) {
            if (SSL_get_error(connection->ssl, 0) != SSL_ERROR_WANT_WRITE) break;
            if (!was_full) watch(EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
            return;
        }
        if (was_full) watch(EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
        was_full = 0;
        if (is_all) return;
        int answer = read_some(connection, &is_all);
        if (answer != 1) {
            int error = SSL_get_error(connection->ssl, answer);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) break;
            is_all = 1;
        }
    }
    finish(connection);
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    if (count != 3) fail("tls_echo CERTIFICATE KEY");
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, arguments[1]) != 1
        || SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1)
        fail("certificate");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, BACKLOG) < 0
        || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        fail("listen");
    if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
    watch(EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, NULL);
    printf("{\"address\": \"127.0.0.1:%d\"}\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int each = 0; each < ready; each++) {
            if (events[each].data.ptr == NULL) {
                char order[256];
                if (read(STDIN_FILENO, order, sizeof order) <= 0) return 0;
            } else if (events[each].data.ptr == &listener)
                accept_all(listener);
            else
                act(events[each].data.ptr);
        }
    }
}
