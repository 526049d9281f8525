"""`fpmd` for a campaign, whose end it does not outlive: a device is measured by one at a time."""

import sys

from fpmd_mjx.run.process import end_with_parent

if __name__ == "__main__":
    end_with_parent()

    from fpmd_mjx import cli  # takes seconds

    sys.exit(cli.main())
