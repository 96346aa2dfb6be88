"""Load while parts are killed and frozen."""
