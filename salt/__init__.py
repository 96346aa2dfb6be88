"""The month's salt: made, handed out, and destroyed when its month ends."""
