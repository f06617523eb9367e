"""python -m examples.quickstart: see quickstart.py."""

import sys

from distilbart_mnli.errors import run_command
from examples.quickstart.quickstart import main

if __name__ == "__main__":
    sys.exit(run_command(main))
