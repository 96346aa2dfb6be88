"""How far an address with a browser is from a person: simulated months, that know both."""
