"""`/demo`: shows visitors what is stored of their visit. Only imported if DEMO=1.

The page must come from the collector. This is the only part of it that reads from PostgreSQL.
"""
