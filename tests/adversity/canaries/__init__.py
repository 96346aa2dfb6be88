"""Canaries: markers that are sent in every field, and then searched for in all that is written.

Read `markers` (what is sent, in all forms in which it could be written down), `traffic` (the
requests), `stage` (a system that writes down whatever passes, and the search), `story` (what
happens to it), `../test_canaries.py`. `faulty_collector` is a program that runs in the story.
"""

import pytest

# So that a failed assertion in the story shows its values.
pytest.register_assert_rewrite("tests.adversity.canaries.story")
