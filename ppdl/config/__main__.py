"""`python -m ppdl.config`: params.yaml in step with conf/."""

from ppdl.config.compose import main

if __name__ == "__main__":
    raise SystemExit(main())
