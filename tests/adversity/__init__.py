"""What goes wrong: kills, outages, broken wires, hostile input. On real processes and servers."""
