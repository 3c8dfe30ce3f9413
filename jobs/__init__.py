"""The front door: commands, clusters and the files of a run. Knows where and when, never how."""
