"""Rotation: makes each month's salt when the month begins, and destroys the earlier salts."""
