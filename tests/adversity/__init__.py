"""What goes wrong: kills, outages, broken wires, hostile input. On real processes and servers."""

import pytest

# So that a failed assertion in the rig shows its values.
pytest.register_assert_rewrite("tests.adversity.rig")
