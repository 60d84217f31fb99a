"""The command line: ``cli`` has the commands, and the work of each command is in the file of its name.

What users call is the program ``limbeck``; the Python functions here are not public. This room may import every other room.
"""
