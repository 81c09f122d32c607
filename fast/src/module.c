/* The module sockservices_fast, and what its files share. */
#include "fast.h"

/* The number of what this module and sockservices know of each other. Change both together. */
#define INTERFACE 1

void fast_put(PyObject **place, PyObject *value)
{
    PyObject *former = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(former);
}

PyObject *fast_caught(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

void fast_raise(PyObject *error)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
}

static PyMethodDef functions[2];

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sockservices_fast",
    .m_doc = "What sockservices does for each message, in C.",
    .m_size = -1, /* one in a process, as the reactor */
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_sockservices_fast(void)
{
    functions[0] = fast_dispatch_method;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (fast_prepare_dispatch() || fast_add_stream(module)
        || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
