/* What the files of this module share. All of it keeps to CPython's limited API of 3.11, so that
 * one build serves that version and all later ones. */
#ifndef FAST_H
#define FAST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Put a new reference to `value` where another one is, which may be NULL. */
void fast_put(PyObject **place, PyObject *value);

/* Clear the exception that is set, and return it with its traceback; NULL if there is none. */
PyObject *fast_caught(void);

/* Set an exception that fast_caught returned, which this takes. */
void fast_raise(PyObject *error);

/* Add to the module what each file has; 0, or -1 with an exception. */
int fast_add_stream(PyObject *module);

extern PyMethodDef fast_dispatch_method;
int fast_prepare_dispatch(void);

#endif
