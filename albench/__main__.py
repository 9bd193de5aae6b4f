"""`python -m albench` is `albench`."""

from albench.cli import main

main(prog_name="albench")
