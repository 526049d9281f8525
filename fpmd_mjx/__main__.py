"""`python -m fpmd_mjx`: the command line, for other processes of this program.

It does not outlive the process that started it: a device is measured by one at a time.
"""

import sys

from fpmd_mjx.run.process import end_with_parent, has_parent

if __name__ == "__main__":
    if has_parent():
        end_with_parent()

    from fpmd_mjx import cli  # takes seconds

    sys.exit(cli.main())
