"""Stream in, PostgreSQL out; owner of the schema.

The steps, in the order an event takes them: `read`, `batch`, `write` (with `copy_format` and the
statements in `sql/`), and back to `read` to acknowledge. `worker` walks them.
"""
