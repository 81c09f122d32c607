/* What the files of this module share. All of it keeps to CPython's limited API of 3.11, so that
 * one build serves that version and all later ones. */
#ifndef FAST_H
#define FAST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Put a new reference to `value` where another one is, which may be NULL. */
void fast_put(PyObject **place, PyObject *value);

/* Make an object as object.__new__ does, which on CPython 3.11 alone lets it have its attributes in
 * an array, which takes half the memory of a dictionary. */
PyObject *fast_new(PyTypeObject *type);

/* Clear the exception that is set, and return it with its traceback; NULL if there is none. */
PyObject *fast_caught(void);

/* Set an exception that fast_caught returned, which this takes. */
void fast_raise(PyObject *error);

typedef struct { PyObject **place; const char *text; } FastName;

/* Make the strings of a list that ends with NULL; 0, or -1 with an exception. */
int fast_intern(const FastName *names);

/* The file descriptor of a plain socket, asked for each time: other code may have closed it, and
 * then its number is soon another's. -1 if it is closed, or is no plain socket; no exception. */
int fast_descriptor(PyObject *socket);

/* 0 for a result, which this takes, or -1 for none, with an exception. */
static inline int fast_done(PyObject *result)
{
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* Call a method with the arguments of a METH_FASTCALL | METH_KEYWORDS. */
PyObject *fast_call(PyObject *self, PyObject *name, PyObject *const *arguments, Py_ssize_t count,
                    PyObject *names);

/* Add to the module what each file has; 0, or -1 with an exception. */
int fast_add_stream(PyObject *module);
int fast_add_datagrams(PyObject *module);

extern PyMethodDef fast_dispatch_method;
int fast_prepare_dispatch(void);

#endif
