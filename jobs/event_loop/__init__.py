"""The event loop: chunks handed out, watched, tried again, and added in a fixed order."""
