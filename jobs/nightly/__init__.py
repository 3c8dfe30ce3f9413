"""The nightly: new runs, a cheap test of the constants in force, a calibration where they fail.

`settings` is the configuration; `states` keeps what became of each calibration; `arrivals` finds
new files and runs; `directories` makes the run directories and keeps sums for good; `steps` are
the steps of the state machine, `night` goes through them; `notify`, `page` and `dry` tell of it.
"""
