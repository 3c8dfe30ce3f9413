"""What a result must pass: gates, closure, verdict, and whether constants have moved."""
