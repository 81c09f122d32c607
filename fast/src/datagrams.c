/* The base of UDP ports: reading datagrams, passing them on, and answering whoever sent the last.
 *
 * The pure path, sockservices/transports/datagram_port.py, datagram_sending.py and askers.py, is
 * the reference, and everything that is not by far the most frequent case is left to it. Datagrams
 * are read one by one: of several that recvmmsg(2) takes from the kernel at once, the others would
 * be lost, or kept in a queue of ours, when the protocol pauses or stops the port. */
#include "fast.h"

#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

#define DATAGRAMS_A_TURN 64
#define SPACE 128 /* for ancillary data, as in askers.py */
#define KNOWN 256 /* peers; a power of 2 */

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} Name;

/* Ancillary data, aligned as it has to be. */
typedef union {
    struct cmsghdr header;
    unsigned char bytes[SPACE];
} Ancillary;

/* A sender, as the kernel and as Python know it. */
typedef struct {
    PyObject *peer, *told_source; /* the second is what `source` was made from, or NULL */
    socklen_t length;
    size_t told, source_size;
    Name name;
    Ancillary ancillary; /* as received */
    Ancillary source;    /* as sent with an answer */
} Sender;

typedef struct {
    PyObject_HEAD
    PyObject *socket, *protocol;
    PyObject *askers, *buffer, *connected_to, *deadline, *is_reading, *refuses, *takes_batches,
        *unsent;
    long long received, bytes_in, bytes_out;
    Sender *senders; /* by their hash; NULL before the first datagram */
    Sender *latest;
} Port;

static PyObject *str_answer_purely, *str_asker, *str_begin_turn, *str_close_if_done, *str_count,
    *str_datagram_received, *str_deliver_truncated, *str_failed, *str_has_answered, *str_if_shut_down, *str_latest,
    *str_move_to_end, *str_peer, *str_protocol, *str_read_purely, *str_source, *str_survive,
    *str_write_purely;

static PyObject **const objects(Port *port, size_t i)
{
    PyObject **all[] = {&port->socket,   &port->protocol,   &port->askers,  &port->buffer,
                        &port->connected_to, &port->deadline, &port->is_reading, &port->refuses,
                        &port->takes_batches, &port->unsent};
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Port *port = (Port *)self;
    PyObject **place;
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; (place = objects(port, i)) != NULL; i++)
        Py_VISIT(*place);
    for (size_t i = 0; port->senders != NULL && i < KNOWN; i++) {
        Py_VISIT(port->senders[i].peer);
        Py_VISIT(port->senders[i].told_source);
    }
    return 0;
}

static int clear(PyObject *self)
{
    Port *port = (Port *)self;
    PyObject **place;
    for (size_t i = 0; (place = objects(port, i)) != NULL; i++)
        Py_CLEAR(*place);
    port->latest = NULL;
    for (size_t i = 0; port->senders != NULL && i < KNOWN; i++) {
        Py_CLEAR(port->senders[i].peer);
        Py_CLEAR(port->senders[i].told_source);
    }
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    PyMem_Free(((Port *)self)->senders);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Port *port = (Port *)fast_new(type);
    if (port == NULL)
        return NULL;
    fast_put(&port->askers, Py_None);
    fast_put(&port->connected_to, Py_None);
    fast_put(&port->deadline, Py_None);
    fast_put(&port->is_reading, Py_False);
    fast_put(&port->refuses, Py_None);
    return (PyObject *)port;
}

static size_t hash_of(const Name *name, socklen_t length)
{
    const unsigned char *bytes = (const unsigned char *)name;
    uint32_t hash = 2166136261u;
    for (socklen_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return (hash ^ hash >> 16) & (KNOWN - 1);
}

/* A name as recvmsg(2) of Python's sockets returns it. */
static PyObject *python_name(const Name *name)
{
    char host[INET6_ADDRSTRLEN];
    if (name->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &name->v4.sin_addr, host, sizeof host);
        return Py_BuildValue("(si)", host, (int)ntohs(name->v4.sin_port));
    }
    inet_ntop(AF_INET6, &name->v6.sin6_addr, host, sizeof host);
    return Py_BuildValue("(siII)", host, (int)ntohs(name->v6.sin6_port),
                         (unsigned)ntohl(name->v6.sin6_flowinfo), (unsigned)name->v6.sin6_scope_id);
}

static PyObject *python_ancillary(struct msghdr *message)
{
    PyObject *list = PyList_New(0);
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); list && each;
         each = CMSG_NXTHDR(message, each)) {
        PyObject *item = Py_BuildValue("(iiy#)", each->cmsg_level, each->cmsg_type,
                                       (char *)CMSG_DATA(each),
                                       (Py_ssize_t)(each->cmsg_len - CMSG_LEN(0)));
        if (item == NULL || PyList_Append(list, item))
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* Put an asker's source, a list of (level, type, data), into a sender; 0, or -1 with an exception. */
static int take_source(Sender *sender, PyObject *peer)
{
    PyObject *source = PyObject_GetAttr(peer, str_source);
    struct msghdr message = {.msg_control = &sender->source, .msg_controllen = SPACE};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    memset(&sender->source, 0, sizeof sender->source);
    sender->source_size = 0;
    Py_ssize_t count = source != NULL ? PyList_Size(source) : -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        int level, type;
        const char *data;
        Py_ssize_t size;
        if (!PyArg_ParseTuple(PyList_GetItem(source, i), "iiy#", &level, &type, &data, &size)) {
            count = -1;
            break;
        }
        if (header == NULL || sender->source_size + CMSG_SPACE((size_t)size) > SPACE) {
            PyErr_SetString(PyExc_ValueError, "too much ancillary data");
            count = -1;
            break;
        }
        header->cmsg_level = level;
        header->cmsg_type = type;
        header->cmsg_len = CMSG_LEN((size_t)size);
        memcpy(CMSG_DATA(header), data, (size_t)size);
        sender->source_size += CMSG_SPACE((size_t)size);
        header = CMSG_NXTHDR(&message, header);
    }
    sender->told_source = source;
    return count < 0 ? -1 : 0;
}

/* Learn a sender's name in Python; 0, or -1 with an exception. */
static int learn(Port *port, Sender *sender, struct msghdr *message)
{
    Sender found = {.length = message->msg_namelen, .told = message->msg_controllen};
    memcpy(&found.name, message->msg_name, sizeof found.name);
    memcpy(&found.ancillary, message->msg_control, SPACE);
    PyObject *raw = python_name(&found.name);
    PyObject *peer =
        raw ? PyObject_CallMethodObjArgs((PyObject *)port, str_peer, raw, NULL) : NULL;
    Py_XDECREF(raw);
    if (peer != NULL && port->askers != Py_None) {
        PyObject *ancillary = python_ancillary(message);
        PyObject *asker = ancillary ? PyObject_CallMethodObjArgs(port->askers, str_asker, peer,
                                                                 ancillary, NULL)
                                    : NULL;
        Py_XDECREF(ancillary);
        Py_DECREF(peer);
        peer = asker;
        if (peer != NULL && take_source(&found, peer))
            Py_CLEAR(peer);
    }
    if (peer == NULL) {
        Py_XDECREF(found.told_source);
        return -1;
    }
    if (found.name.any.sa_family == AF_INET6)
        found.name.v6.sin6_flowinfo = 0; /* an answer has none; so it is only matched without */
    Sender former = *sender;
    found.peer = peer;
    *sender = found;
    Py_XDECREF(former.peer);
    Py_XDECREF(former.told_source);
    return 0;
}

/* Whether an asker is still the one that Python knows; then it is now the latest. */
static int is_still_known(Port *port, PyObject *peer)
{
    PyObject *all = PyObject_GetAttr(port->askers, str_latest);
    PyObject *known = all && PyDict_Check(all) ? PyDict_GetItemWithError(all, peer) : NULL;
    int result = PyErr_Occurred() ? -1 : known == peer;
    if (result > 0) {
        PyObject *moved = PyObject_CallMethodObjArgs(all, str_move_to_end, peer, NULL);
        result = moved ? 1 : -1;
        Py_XDECREF(moved);
    }
    Py_XDECREF(all);
    return result;
}

/* The sender of a message; NULL with an exception. */
static Sender *sender_of(Port *port, struct msghdr *message)
{
    const Name *name = message->msg_name;
    Sender *sender = &port->senders[hash_of(name, message->msg_namelen)];
    if (sender->peer != NULL && sender->length == message->msg_namelen
        && sender->told == message->msg_controllen
        && memcmp(&sender->name, name, message->msg_namelen) == 0
        && memcmp(&sender->ancillary, message->msg_control, SPACE) == 0) {
        int known = port->askers == Py_None ? 1 : is_still_known(port, sender->peer);
        if (known)
            return known < 0 ? NULL : sender;
    }
    return learn(port, sender, message) ? NULL : sender;
}

static int descriptor_of(Port *port)
{
    return port->socket != NULL ? fast_descriptor(port->socket) : -1;
}

static int call(Port *port, PyObject *name)
{
    return fast_done(PyObject_CallMethodObjArgs((PyObject *)port, name, NULL));
}

/* Pass a datagram on; 0, or -1 with an exception. */
static int deliver(Port *port, PyObject *data, Py_ssize_t size, PyObject *peer)
{
    PyObject *self = (PyObject *)port, *result, *number = NULL;
    port->received++;
    port->bytes_in += PyBytes_Size(data);
    if (size == PyBytes_Size(data)) {
        PyObject *protocol = PyObject_GetAttr(self, str_protocol);
        result = protocol ? PyObject_CallMethodObjArgs(protocol, str_datagram_received, data, peer,
                                                       NULL)
                          : NULL;
        Py_XDECREF(protocol);
    } else {
        if ((number = PyLong_FromSsize_t(size)) == NULL)
            return -1;
        result = PyObject_CallMethodObjArgs(self, str_deliver_truncated, data, number, peer, NULL);
    }
    if (result == NULL) {
        PyObject *error = fast_caught();
        if (number != NULL || (number = PyLong_FromSsize_t(size)) != NULL)
            result = PyObject_CallMethodObjArgs(self, str_failed, error, number, peer, NULL);
        Py_DECREF(error);
    }
    Py_XDECREF(number);
    return fast_done(result);
}

/* Whether the sender is refused; -1 with an exception. */
static int is_refused(Port *port, PyObject *peer)
{
    if (port->refuses == Py_None || port->refuses == NULL)
        return 0;
    PyObject *refuses = Py_NewRef(port->refuses);
    PyObject *answer = PyObject_CallFunctionObjArgs(refuses, peer, NULL);
    Py_DECREF(refuses);
    int refused = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return refused;
}

/* Receive one datagram and pass it on; takes its size from what is left of the turn. Returns 1 if the turn goes on, 0 if it is
 * over, -1 with an exception; `ended` is then what doRead returns, a new reference or NULL. */
static int receive_one(Port *port, Py_buffer *buffer, int is_first, Py_ssize_t *left,
                       PyObject **ended)
{
    Name name;
    Ancillary ancillary;
    struct iovec into = {.iov_base = buffer->buf, .iov_len = (size_t)buffer->len};
    struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &into,
                             .msg_iovlen = 1, .msg_control = &ancillary};
    memset(&name, 0, sizeof name);
    memset(&ancillary, 0, sizeof ancillary);
    int descriptor = descriptor_of(port), flags = MSG_TRUNC | MSG_DONTWAIT;
    ssize_t size;
    if (port->askers == Py_None) /* a cheaper call */
        size = recvfrom(descriptor, buffer->buf, (size_t)buffer->len, flags, &name.any,
                        &message.msg_namelen);
    else {
        message.msg_controllen = SPACE;
        size = recvmsg(descriptor, &message, flags);
    }
    if (size < 0) {
        PyObject *self = (PyObject *)port;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            *ended = is_first ? PyObject_CallMethodObjArgs(self, str_if_shut_down, NULL)
                              : Py_NewRef(Py_None);
        else {
            PyErr_SetFromErrno(PyExc_OSError);
            PyObject *error = fast_caught();
            *ended = PyObject_CallMethodObjArgs(self, str_survive, error, NULL);
            Py_DECREF(error);
            if (*ended == Py_None && port->is_reading == Py_True) {
                Py_CLEAR(*ended);
                return 1;
            }
        }
        return *ended != NULL ? 0 : -1;
    }
    Sender *sender = sender_of(port, &message);
    if (sender == NULL)
        return -1;
    port->latest = sender;
    PyObject *peer = Py_NewRef(sender->peer);
    int refused = is_refused(port, peer), failed = refused < 0;
    if (!refused) {
        Py_ssize_t length = size < buffer->len ? size : buffer->len;
        PyObject *data = PyBytes_FromStringAndSize(buffer->buf, length);
        failed = data == NULL || deliver(port, data, size, peer);
        Py_XDECREF(data);
        *left -= length;
    }
    Py_DECREF(peer);
    if (failed)
        return -1;
    return refused || (port->is_reading == Py_True && *left > 0);
}

static PyObject *do_read(PyObject *self, PyObject *unused)
{
    Port *port = (Port *)self;
    if (port->takes_batches != Py_False || descriptor_of(port) < 0 || port->askers == NULL
        || port->buffer == NULL)
        return PyObject_CallMethodObjArgs(self, str_read_purely, NULL);
    if (port->senders == NULL) {
        port->senders = PyMem_Calloc(KNOWN, sizeof *port->senders);
        if (port->senders == NULL)
            return PyErr_NoMemory();
    }
    PyObject *most = PyObject_CallMethodObjArgs(self, str_begin_turn, NULL), *ended = NULL;
    Py_ssize_t left = most != NULL ? PyLong_AsSsize_t(most) : -1;
    Py_XDECREF(most);
    Py_buffer buffer;
    if (PyErr_Occurred() || PyObject_GetBuffer(port->buffer, &buffer, PyBUF_WRITABLE))
        return NULL;
    int goes_on = 1;
    for (int i = 0; i < DATAGRAMS_A_TURN && goes_on > 0; i++)
        goes_on = receive_one(port, &buffer, i == 0, &left, &ended);
    PyBuffer_Release(&buffer);
    if (goes_on < 0 || (port->deadline != Py_None && call(port, str_close_if_done))) {
        Py_XDECREF(ended);
        return NULL;
    }
    return ended != NULL ? ended : Py_NewRef(Py_None);
}

/* Whether nothing waits to be sent, so that no datagram overtakes another; -1 with an exception. */
static int nothing_waits(Port *port)
{
    if (port->unsent == NULL)
        return 0; /* Python then says so */
    PyObject *count = PyObject_GetAttr(port->unsent, str_count);
    int waiting = count ? PyObject_IsTrue(count) : -1;
    Py_XDECREF(count);
    return waiting < 0 ? -1 : !waiting;
}

/* Send to whoever sent the last datagram. 1 if it is sent, 0 if that is for Python to do, -1 with
 * an exception. */
static int send_back(Port *port, PyObject *const *arguments, Py_ssize_t count, int is_answer)
{
    Sender *sender = port->latest;
    if (sender == NULL || count != 2 || arguments[1] != sender->peer
        || !PyBytes_CheckExact(arguments[0]) || port->connected_to != Py_None)
        return 0;
    int nothing = nothing_waits(port);
    if (nothing <= 0)
        return nothing;
    if (is_answer) {
        PyObject *has = PyObject_CallMethodObjArgs((PyObject *)port, str_has_answered,
                                                   arguments[1], NULL);
        Py_XDECREF(has);
        if (has == NULL)
            return -1;
        if (has != Py_True || port->latest != sender || sender->peer != arguments[1])
            return 0;
    }
    if (sender->told_source != NULL) {
        PyObject *source = PyObject_GetAttr(arguments[1], str_source);
        Py_XDECREF(source);
        if (source != sender->told_source)
            return source == NULL ? -1 : 0;
    }
    const char *data = PyBytes_AsString(arguments[0]);
    size_t size = (size_t)PyBytes_Size(arguments[0]);
    int descriptor = descriptor_of(port), flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    ssize_t sent;
    if (!sender->source_size)
        sent = sendto(descriptor, data, size, flags, &sender->name.any, sender->length);
    else {
        struct iovec from = {.iov_base = (char *)data, .iov_len = size};
        struct msghdr message = {.msg_name = &sender->name, .msg_namelen = sender->length,
                                 .msg_iov = &from, .msg_iovlen = 1,
                                 .msg_control = &sender->source,
                                 .msg_controllen = sender->source_size};
        sent = sendmsg(descriptor, &message, flags);
    }
    if (sent < 0)
        return 0; /* Python tries again, and finds the same error */
    port->bytes_out += sent;
    return 1;
}

static PyObject *send_or_leave(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                               PyObject *names, int is_answer)
{
    int sent = names == NULL ? send_back((Port *)self, arguments, count, is_answer) : 0;
    if (sent < 0)
        return NULL;
    if (sent)
        Py_RETURN_NONE;
    return fast_call(self, is_answer ? str_answer_purely : str_write_purely, arguments, count, names);
}

static PyObject *answer(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *names)
{
    return send_or_leave(self, arguments, count, names, 1);
}

static PyObject *write_datagram(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                                PyObject *names)
{
    return send_or_leave(self, arguments, count, names, 0);
}

static PyMethodDef methods[] = {
    {"doRead", do_read, METH_NOARGS, "See ``IReadDescriptor.doRead``."},
    {"answer", (PyCFunction)(void (*)(void))answer, METH_FASTCALL | METH_KEYWORDS,
     "See ``AnsweringProtocol.answer``."},
    {"write", (PyCFunction)(void (*)(void))write_datagram, METH_FASTCALL | METH_KEYWORDS,
     "See ``IUDPTransport.write``."},
    {NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, field) {name, type, offsetof(Port, field), 0, NULL}

static PyMemberDef members[] = {
    MEMBER("socket", T_OBJECT_EX, socket),
    MEMBER("protocol", T_OBJECT_EX, protocol),
    MEMBER("refuses", T_OBJECT_EX, refuses),
    MEMBER("_askers", T_OBJECT_EX, askers),
    MEMBER("_buffer", T_OBJECT_EX, buffer),
    MEMBER("_connected_to", T_OBJECT_EX, connected_to),
    MEMBER("_deadline", T_OBJECT_EX, deadline),
    MEMBER("_reading", T_OBJECT_EX, is_reading),
    MEMBER("_takes_batches", T_OBJECT_EX, takes_batches),
    MEMBER("_unsent", T_OBJECT_EX, unsent),
    MEMBER("datagrams_received", T_LONGLONG, received),
    MEMBER("bytes_in", T_LONGLONG, bytes_in),
    MEMBER("bytes_out", T_LONGLONG, bytes_out),
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The base of a UDP port: what each datagram needs."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "sockservices_fast.Datagrams",
    .basicsize = sizeof(Port),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static const FastName names[] = {
    {&str_answer_purely, "_answer_purely"},
    {&str_asker, "asker"},
    {&str_begin_turn, "_begin_turn"},
    {&str_close_if_done, "_close_if_done"},
    {&str_count, "count"},
    {&str_datagram_received, "datagramReceived"},
    {&str_deliver_truncated, "_deliver_truncated"},
    {&str_failed, "_failed"},
    {&str_has_answered, "_has_answered"},
    {&str_if_shut_down, "_if_shut_down"},
    {&str_latest, "_latest"},
    {&str_move_to_end, "move_to_end"},
    {&str_peer, "_peer"},
    {&str_protocol, "protocol"},
    {&str_read_purely, "_read_purely"},
    {&str_source, "source"},
    {&str_survive, "_survive"},
    {&str_write_purely, "_write_purely"},
    {NULL, NULL},
};

int fast_add_datagrams(PyObject *module)
{
    if (fast_intern(names))
        return -1;
    PyObject *type = PyType_FromSpec(&spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Datagrams", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
