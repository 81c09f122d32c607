/* The base of eager streams: reading, passing on what was read, and sending the answer.
 *
 * The pure path, sockservices/transports/eager_stream.py, is the reference, and everything that is
 * not by far the most frequent case is left to it. What both look at are members of the struct here,
 * which Python code reads and sets like any other attributes. */
#include "fast.h"

#include <errno.h>
#include <structmember.h>
#include <sys/socket.h>

typedef struct {
    PyObject_HEAD
    PyObject *socket, *protocol;
    PyObject *held, *was_full, *is_simple, *is_broken;
    PyObject *plain_protocol; /* that is read here; False if any is */
    Py_ssize_t buffer_size, waiting, sent;
    long long bytes_in, bytes_out;
    char reads_as_here, sends_as_here; /* whether no subclass replaces what that uses */
} Stream;

static char buffer[1 << 16]; /* as long as Twisted's bufferSize */

static PyObject *descriptor_type, *connection_done, *connection_lost;
static PyObject *own_buffer_size;
static PyObject *str_asks_protocol, *str_buffer_size, *str_data_received, *str_gather, *str_is_dropped,
    *str_keep_rest, *str_let_others, *str_protocol, *str_read_purely, *str_send, *str_send_early, *str_send_held,
    *str_send_purely, *str_write_purely;

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Stream *stream = (Stream *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(stream->socket);
    Py_VISIT(stream->protocol);
    Py_VISIT(stream->held);
    Py_VISIT(stream->was_full);
    Py_VISIT(stream->is_simple);
    Py_VISIT(stream->is_broken);
    Py_VISIT(stream->plain_protocol);
    return 0;
}

static int clear(PyObject *self)
{
    Stream *stream = (Stream *)self;
    Py_CLEAR(stream->socket);
    Py_CLEAR(stream->protocol);
    Py_CLEAR(stream->held);
    Py_CLEAR(stream->was_full);
    Py_CLEAR(stream->is_simple);
    Py_CLEAR(stream->is_broken);
    Py_CLEAR(stream->plain_protocol);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Whether a type's attribute is this object; -1 with an exception. */
static int is_of_type(PyTypeObject *type, PyObject *name, PyObject *wanted)
{
    PyObject *found = wanted != NULL ? PyObject_GetAttr((PyObject *)type, name) : NULL;
    if (found == NULL)
        return -1;
    Py_DECREF(found);
    return found == wanted;
}

/* Whether no subclass has a _send of its own; -1 with an exception. */
static int sends_plainly(PyTypeObject *type)
{
    PyObject *plain = PyObject_GetAttr((PyObject *)type, str_send_purely);
    int result = is_of_type(type, str_send, plain);
    Py_XDECREF(plain);
    return result;
}

/* Twisted's default, which an application may have changed. */
static int take_buffer_size(Stream *stream)
{
    PyObject *size = PyObject_GetAttr(descriptor_type, str_buffer_size);
    if (size == NULL)
        return -1;
    stream->buffer_size = PyLong_AsSsize_t(size);
    Py_DECREF(size);
    return stream->buffer_size == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Stream *stream = (Stream *)fast_new(type);
    if (stream == NULL)
        return NULL;
    fast_put(&stream->held, Py_False);
    fast_put(&stream->was_full, Py_False);
    fast_put(&stream->is_simple, Py_True);
    fast_put(&stream->is_broken, Py_False);
    fast_put(&stream->plain_protocol, Py_None);
    int reads = is_of_type(type, str_buffer_size, own_buffer_size), sends = -1, asks = -1;
    if (reads >= 0)
        sends = sends_plainly(type);
    if (sends >= 0)
        asks = is_of_type(type, str_asks_protocol, Py_True);
    if (asks < 0 || take_buffer_size(stream)) {
        Py_DECREF(stream);
        return NULL;
    }
    stream->reads_as_here = (char)reads;
    stream->sends_as_here = (char)(reads && sends);
    if (!asks)
        fast_put(&stream->plain_protocol, Py_False);
    return (PyObject *)stream;
}

static int descriptor_of(Stream *stream)
{
    return stream->socket != NULL ? fast_descriptor(stream->socket) : -1;
}

/* Ask Python what becomes of data that the kernel refuses for good. 1 if that is dropped, 0 if it
 * is kept, -1 with an exception. */
static int is_dropped(Stream *stream, PyObject *data)
{
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *error = fast_caught();
    PyObject *answer =
        PyObject_CallMethodObjArgs((PyObject *)stream, str_is_dropped, data, error, NULL);
    Py_XDECREF(error);
    int dropped = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return dropped;
}

/* As EagerStream._send; 0, or -1 with an exception. */
static int send_data(Stream *stream, PyObject *data)
{
    PyObject *self = (PyObject *)stream;
    int descriptor = stream->sends_as_here && PyBytes_CheckExact(data) ? descriptor_of(stream) : -1;
    if (descriptor < 0)
        return fast_done(PyObject_CallMethodObjArgs(self, str_send, data, NULL));
    Py_ssize_t size = PyBytes_Size(data);
    Py_ssize_t sent = send(descriptor, PyBytes_AsString(data), (size_t)size,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        int dropped =
            errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : is_dropped(stream, data);
        if (dropped)
            return dropped < 0 ? -1 : 0;
        sent = 0;
    }
    stream->bytes_out += sent;
    stream->sent += sent;
    if (sent < size) {
        PyObject *count = PyLong_FromSsize_t(sent);
        if (count == NULL)
            return -1;
        int result = fast_done(PyObject_CallMethodObjArgs(self, str_keep_rest, data, count, NULL));
        Py_DECREF(count);
        return result;
    }
    if (stream->sent > stream->buffer_size)
        return fast_done(PyObject_CallMethodObjArgs(self, str_let_others, NULL));
    return 0;
}

/* Send what was written during a read; 0, or -1 with an exception. */
static int send_held(Stream *stream, PyObject *held)
{
    if (held == Py_None || held == Py_False)
        return 0;
    if (!stream->waiting && PyBytes_CheckExact(held) && PyBytes_Size(held))
        return send_data(stream, held);
    return fast_done(PyObject_CallMethodObjArgs((PyObject *)stream, str_send_held, held, NULL));
}

static int send_early(Stream *stream)
{
    return fast_done(PyObject_CallMethodObjArgs((PyObject *)stream, str_send_early, NULL));
}

/* Pass on what was read, as the end of EagerStream.doRead; 0, or -1 with an exception. */
static int pass_on(Stream *stream, PyObject *data)
{
    /* The attribute, unless an early answer has ended the connection. */
    PyObject *protocol = stream->protocol != NULL
                             ? Py_NewRef(stream->protocol)
                             : PyObject_GetAttr((PyObject *)stream, str_protocol);
    PyObject *result =
        protocol ? PyObject_CallMethodObjArgs(protocol, str_data_received, data, NULL) : NULL;
    Py_XDECREF(protocol);
    PyObject *error = result == NULL ? fast_caught() : NULL;
    Py_XDECREF(result);

    PyObject *held = stream->held;
    stream->held = Py_NewRef(Py_False);
    int failed = held != NULL && send_held(stream, held);
    Py_XDECREF(held);
    if (error == NULL)
        return failed ? -1 : 0;
    if (failed) {
        PyObject *later = fast_caught();
        if (later != error)
            PyException_SetContext(later, error); /* takes it */
        else
            Py_DECREF(error);
        error = later;
    }
    fast_raise(error);
    return -1;
}

static PyObject *do_read(PyObject *self, PyObject *unused)
{
    Stream *stream = (Stream *)self;
    int descriptor = -1;
    if (stream->reads_as_here && stream->was_full == Py_False && stream->protocol != NULL
        && (stream->plain_protocol == Py_False || stream->plain_protocol == stream->protocol)
        && 0 < stream->buffer_size && stream->buffer_size <= (Py_ssize_t)sizeof buffer)
        descriptor = descriptor_of(stream);
    if (descriptor < 0)
        return PyObject_CallMethodObjArgs(self, str_read_purely, NULL);

    Py_ssize_t size = stream->buffer_size;
    Py_ssize_t count = recv(descriptor, buffer, (size_t)size, MSG_DONTWAIT);
    if (count < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            Py_RETURN_NONE;
        return Py_NewRef(connection_lost);
    }
    if (count == 0)
        return Py_NewRef(stream->is_broken == Py_True ? connection_lost : connection_done);
    PyObject *data = PyBytes_FromStringAndSize(buffer, count);
    if (data == NULL)
        return NULL;
    if (count >= size)
        fast_put(&stream->was_full, Py_True);
    stream->sent = 0;
    stream->bytes_in += count;
    /* What is held now is from a read that is not over: the protocol runs a turn of the reactor. */
    int failed = stream->held != Py_False && send_early(stream);
    if (!failed) {
        if (stream->is_simple == Py_True)
            fast_put(&stream->held, Py_None);
        failed = pass_on(stream, data);
    }
    Py_DECREF(data);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *write_data(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                            PyObject *names)
{
    Stream *stream = (Stream *)self;
    PyObject *held = stream->held;
    if (count != 1 || names != NULL || held == NULL || held == Py_False
        || !PyBytes_CheckExact(arguments[0]))
        return fast_call(self, str_write_purely, arguments, count, names);
    if (held == Py_None) {
        fast_put(&stream->held, arguments[0]);
        Py_RETURN_NONE;
    }
    Py_INCREF(held);
    PyObject *result = PyObject_CallMethodObjArgs(self, str_gather, held, arguments[0], NULL);
    Py_DECREF(held);
    return result;
}

static PyMethodDef methods[] = {
    {"doRead", do_read, METH_NOARGS, "See ``IReadDescriptor.doRead``."},
    {"write", (PyCFunction)(void (*)(void))write_data, METH_FASTCALL | METH_KEYWORDS,
     "See ``ITransport.write``."},
    {NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, field) {name, type, offsetof(Stream, field), 0, NULL}

static PyMemberDef members[] = {
    MEMBER("socket", T_OBJECT_EX, socket),
    MEMBER("protocol", T_OBJECT_EX, protocol),
    MEMBER("_held", T_OBJECT_EX, held),
    MEMBER("_was_full", T_OBJECT_EX, was_full),
    MEMBER("_is_simple", T_OBJECT_EX, is_simple),
    MEMBER("_broken", T_OBJECT_EX, is_broken),
    MEMBER("_plain_protocol", T_OBJECT_EX, plain_protocol),
    MEMBER("_tempDataLen", T_PYSSIZET, waiting),
    MEMBER("_sent", T_PYSSIZET, sent),
    MEMBER("bytes_in", T_LONGLONG, bytes_in),
    MEMBER("bytes_out", T_LONGLONG, bytes_out),
    {NULL, 0, 0, 0, NULL},
};

static PyObject *get_buffer_size(PyObject *self, void *unused)
{
    return PyLong_FromSsize_t(((Stream *)self)->buffer_size);
}

/* A member of that type would be -1 after a value that is refused. */
static int set_buffer_size(PyObject *self, PyObject *value, void *unused)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "bufferSize cannot be deleted");
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(value);
    if (size == -1 && PyErr_Occurred())
        return -1;
    ((Stream *)self)->buffer_size = size;
    return 0;
}

static PyGetSetDef computed[] = {
    {"bufferSize", get_buffer_size, set_buffer_size, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The base of an eager stream: what each message needs."},
    {Py_tp_getset, computed},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "sockservices_fast.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static const struct { PyObject **place; const char *module, *name; } imported[] = {
    {&descriptor_type, "twisted.internet.abstract", "FileDescriptor"},
    {&connection_done, "twisted.internet.main", "CONNECTION_DONE"},
    {&connection_lost, "twisted.internet.main", "CONNECTION_LOST"},
};

static const FastName names[] = {
    {&str_asks_protocol, "_asks_protocol"},
    {&str_buffer_size, "bufferSize"},
    {&str_data_received, "dataReceived"},
    {&str_gather, "_gather"},
    {&str_is_dropped, "_is_dropped"},
    {&str_keep_rest, "_keep_rest"},
    {&str_let_others, "_let_others_have_their_turn"},
    {&str_protocol, "protocol"},
    {&str_read_purely, "_read_purely"},
    {&str_send, "_send"},
    {&str_send_early, "_send_early"},
    {&str_send_held, "_send_held"},
    {&str_send_purely, "_send_purely"},
    {&str_write_purely, "_write_purely"},
    {NULL, NULL},
};

int fast_add_stream(PyObject *module)
{
    for (size_t i = 0; i < sizeof imported / sizeof *imported; i++) {
        PyObject *from = PyImport_ImportModule(imported[i].module);
        *imported[i].place = from ? PyObject_GetAttrString(from, imported[i].name) : NULL;
        Py_XDECREF(from);
        if (*imported[i].place == NULL)
            return -1;
    }
    if (fast_intern(names))
        return -1;
    PyObject *type = PyType_FromSpec(&spec);
    own_buffer_size = type != NULL ? PyObject_GetAttr(type, str_buffer_size) : NULL;
    if (own_buffer_size == NULL || PyModule_AddObjectRef(module, "Stream", type)) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}
