"""`python -m flusher import`: sessions of the earlier system, from a CSV file.

The steps in their order: `file_lines`, `csv_line`, `earlier_sessions`, `line_batches`, `store`.
`import_sessions` runs them, and `undo` takes an import back.
"""
