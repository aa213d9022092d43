"""The command line: one file a command, errors to exit codes in one place."""
