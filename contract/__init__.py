"""What the processes must agree on.

Admission test: two processes would misbehave if they disagreed about it. Pure, no I/O.
"""
