"""Finetuning modes, one file each.

`common` comes first: from its import on, Ctrl-C ends a script without a traceback, also while torch
is imported. (`as common` tells linters that the import is meant.)
"""

import common as common
