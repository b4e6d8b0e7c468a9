"""`python -m samtrt` is `samtrt`."""

import sys

from samtrt.cli import main

sys.exit(main())
