"""How well crawlers are recognised, and what a verdict costs."""
