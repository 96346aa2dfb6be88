"""What the processes must agree on.

Something belongs here if two processes would misbehave when they disagree about it. No I/O.
"""
