"""autoquant: the search for a plan, the plan, and what the whole model says of it."""
