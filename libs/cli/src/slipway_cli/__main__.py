"""`python -m slipway_cli`: the same as `slipway`, where the script is not on PATH."""

from slipway_cli.main import main

if __name__ == "__main__":
    main()
