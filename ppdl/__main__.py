"""`python -m ppdl`: the same as the `ppdl` command."""

from ppdl.cli import main

if __name__ == "__main__":
    main(prog_name="ppdl")
