"""A plugin framework for socket services on Twisted: the public names, each imported when used.

``twistd`` imports this package to read its declarations, for every command. So nothing here may
import a service, or more of Twisted than the command needs. ``__init__.pyi`` has the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
