"""Paillier: keys, numbers, files of ciphertexts, encryption of image sets, inner products, workers.

`from ppdl.crypto import ...` gives what `__init__.pyi` lists, imported when it is first used: a stage runs, and depends on, no more of this
package than it names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
