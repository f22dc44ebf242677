"""Says which elements others need, as diskimage-builder's file of this name does.

    element-info.py [--env] ELEMENT...
"""

import sys

from diskimage_builder.element_dependencies import main

sys.exit(main())
