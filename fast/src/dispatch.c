/* One wait for events, and their dispatch: the loop of sockservices/transports/watching.py. */
#include "fast.h"

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <time.h>

#define EVENTS 1024 /* one call takes at most this many; the next one continues where it stopped */

static PyObject *str_do_read, *str_end_reading, *str_serve_event;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Wait as select.epoll.poll does: at most `timeout` seconds, forever if it is negative, and on
 * after a signal unless its handler raises. Returns the number of events, or -1 with an exception. */
static int wait_for(int epoll, double timeout, struct epoll_event *events)
{
    double deadline = timeout > 0 ? now() + timeout : 0;
    for (;;) {
        int count, milliseconds = timeout < 0 ? -1 : 0;
        if (timeout > 0)
            milliseconds = timeout * 1000 < INT_MAX ? (int)ceil(timeout * 1000) : INT_MAX;
        if (timeout == 0)
            count = epoll_wait(epoll, events, EVENTS, 0);
        else {
            Py_BEGIN_ALLOW_THREADS
            count = epoll_wait(epoll, events, EVENTS, milliseconds);
            Py_END_ALLOW_THREADS
        }
        if (count >= 0)
            return count;
        if (errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals())
            return -1;
        if (timeout > 0 && (timeout = deadline - now()) < 0)
            return 0;
    }
}

/* Let a readable connection read; 0, or -1 with an exception that is to leave the reactor. */
static int read_one(PyObject *owner, PyObject *connection, PyObject *contexts)
{
    /* PyList_SetItem takes the reference. */
    if (PyList_SetItem(contexts, PyList_Size(contexts) - 1, Py_NewRef(connection)))
        return -1;
    PyObject *why = PyObject_CallMethodObjArgs(connection, str_do_read, NULL);
    if (why == Py_None) {
        Py_DECREF(why);
        return 0;
    }
    PyObject *has_read = why != NULL ? Py_True : Py_False;
    if (why == NULL)
        why = fast_caught();
    int result = fast_done(PyObject_CallMethodObjArgs(owner, str_end_reading, connection, why,
                                                  has_read, NULL));
    Py_DECREF(why);
    return result;
}

static int serve_event(PyObject *owner, PyObject *descriptor, uint32_t event)
{
    PyObject *number = PyLong_FromUnsignedLong(event);
    if (number == NULL)
        return -1;
    int result =
        fast_done(PyObject_CallMethodObjArgs(owner, str_serve_event, descriptor, number, NULL));
    Py_DECREF(number);
    return result;
}

static int dispatch_one(PyObject *owner, PyObject *served, PyObject *contexts,
                        const struct epoll_event *event)
{
    PyObject *descriptor = PyLong_FromLong(event->data.fd);
    if (descriptor == NULL)
        return -1;
    int result;
    PyObject *connection = PyDict_GetItemWithError(served, descriptor); /* borrowed */
    if (connection != NULL && event->events == EPOLLIN) {
        Py_INCREF(connection);
        result = read_one(owner, connection, contexts);
        Py_DECREF(connection);
    } else
        result = PyErr_Occurred() ? -1 : serve_event(owner, descriptor, event->events);
    Py_DECREF(descriptor);
    return result;
}

static PyObject *dispatch(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct epoll_event events[EVENTS]; /* not static: a protocol may run a turn of the reactor */
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "dispatch takes 5 arguments");
        return NULL;
    }
    PyObject *owner = arguments[0], *served = arguments[3], *contexts = arguments[4];
    long epoll = PyLong_AsLong(arguments[1]);
    double timeout = PyFloat_AsDouble(arguments[2]);
    if (PyErr_Occurred())
        return NULL;
    int ready = wait_for((int)epoll, timeout, events);
    for (int i = 0; i < ready; i++)
        if (dispatch_one(owner, served, contexts, &events[i]))
            return NULL;
    if (ready < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef fast_dispatch_method = {
    "dispatch", (PyCFunction)(void (*)(void))dispatch, METH_FASTCALL,
    "dispatch(watching, epoll, timeout, served, contexts)\n--\n\n"
    "Wait for events, at most ``timeout`` seconds (negative: forever), and dispatch them."};

int fast_prepare_dispatch(void)
{
    str_do_read = PyUnicode_InternFromString("doRead");
    str_end_reading = PyUnicode_InternFromString("_end_reading");
    str_serve_event = PyUnicode_InternFromString("_serve_event");
    return str_do_read && str_end_reading && str_serve_event ? 0 : -1;
}
