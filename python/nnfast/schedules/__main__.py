"""``python -m nnfast.schedules PICTURE``."""

import sys

from nnfast.schedules.picture import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
