"""What every process does the same way: start, log, connect, serve its admin pages, stop.

The I/O that the processes share. It knows nothing of sessions, and imports only `contract`.
"""
