"""The nightly: new runs, a cheap test of the constants in force, a calibration where they fail.

`settings` is the configuration; `states` keeps what became of each calibration, and what is left of
each run; `new_runs` finds files and runs; `directories` makes the run directories and keeps sums
for good; `steps` has the steps of the state machine and says which is next, `validity_test` is
one of them; `night` goes through them; `notifications`, `overview` and `dry_run` tell of it.
"""
