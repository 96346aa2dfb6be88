"""`python -m flusher report`: `read` (the views), `report` (what it says), `formats` and `html`."""
