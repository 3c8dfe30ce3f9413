"""Groups of commands, one file each; `jobs.cli` adds them."""
