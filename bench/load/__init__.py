"""Load over HTTP that reconciles every answer with the rows."""
