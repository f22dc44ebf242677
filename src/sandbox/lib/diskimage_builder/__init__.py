"""What hooks on the host import of diskimage-builder. Modules that are not here come from an installed one."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
