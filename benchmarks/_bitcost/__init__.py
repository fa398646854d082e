"""Parts of calibrate_bitcost.py."""
