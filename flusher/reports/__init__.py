"""What people read of the counts without Metabase."""
