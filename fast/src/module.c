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

PyObject *fast_new(PyTypeObject *type)
{
    PyObject *nothing = PyTuple_New(0);
    newfunc make = (newfunc)PyType_GetSlot(&PyBaseObject_Type, Py_tp_new);
    PyObject *made = nothing != NULL ? make(type, nothing, NULL) : NULL;
    Py_XDECREF(nothing);
    return made;
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

int fast_intern(const FastName *names)
{
    for (; names->place != NULL; names++)
        if ((*names->place = PyUnicode_InternFromString(names->text)) == NULL)
            return -1;
    return 0;
}

static PyObject *socket_type, *str_fileno;
static const FastName own_names[] = {{&str_fileno, "fileno"}, {NULL, NULL}};

int fast_descriptor(PyObject *socket)
{
    if ((PyObject *)Py_TYPE(socket) != socket_type)
        return -1;
    PyObject *number = PyObject_CallMethodObjArgs(socket, str_fileno, NULL);
    long descriptor = number != NULL ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        PyErr_Clear();
    return (int)descriptor;
}

PyObject *fast_call(PyObject *self, PyObject *name, PyObject *const *arguments, Py_ssize_t count,
                    PyObject *names)
{
    PyObject *method = PyObject_GetAttr(self, name), *result = NULL;
    PyObject *positional = PyTuple_New(count), *named = names != NULL ? PyDict_New() : NULL;
    int failed = method == NULL || positional == NULL || (names != NULL && named == NULL);
    for (Py_ssize_t i = 0; !failed && i < count; i++)
        failed = PyTuple_SetItem(positional, i, Py_NewRef(arguments[i]));
    for (Py_ssize_t i = 0; !failed && names != NULL && i < PyTuple_Size(names); i++)
        failed = PyDict_SetItem(named, PyTuple_GetItem(names, i), arguments[count + i]);
    if (!failed)
        result = PyObject_Call(method, positional, named);
    Py_XDECREF(method);
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

static int prepare(void)
{
    PyObject *module = PyImport_ImportModule("socket");
    socket_type = module != NULL ? PyObject_GetAttrString(module, "socket") : NULL;
    Py_XDECREF(module);
    return socket_type != NULL && !fast_intern(own_names) ? 0 : -1;
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
    if (prepare() || fast_prepare_dispatch() || fast_add_stream(module) || fast_add_datagrams(module)
        || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
