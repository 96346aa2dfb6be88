"""`/demo`: shows somebody what is stored of their visit. Imported under DEMO=1 only.

It is part of the collector because the page has to come from there; looking into PostgreSQL, which
no collector needs, is done here alone.
"""
