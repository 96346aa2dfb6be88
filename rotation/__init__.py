"""The clock: makes each month's salt when it begins, and sees that no earlier one is left."""
