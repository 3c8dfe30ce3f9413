"""The nightly: new runs, a cheap test of the constants in force, a calibration where they fail.

`settings` is the configuration; `states` keeps what became of each calibration, and what is left of
each run; `new_runs` finds files and runs; `directories` makes the run directories and keeps sums
for good; `validity_test` and `calibrating` are the steps of the state machine, `steps` says which
is next, `night` goes through them; `notifications`, `overview` and `dry_run` tell of it.
"""
