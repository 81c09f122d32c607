"""A plugin framework for socket services on Twisted, with public names imported on first use.

``twistd`` imports this package to read its declarations, whatever the command. So this module must
not import a service, or more of Twisted than the command needs. ``__init__.pyi`` has the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
