"""The command line: ``cli`` has the commands, and the work of each stands in the file of its name."""
