"""HTTP in, stream out: one request becomes one event in Redis, and nothing else leaves memory.

The steps, in the order a request takes them: `body`, `site`, `crawlers`, `caller`,
`client_address`, `monthly_salt`, `append`, `answers`. `sessions` walks them. Around them, for HTTP:
`connection` and `usual`, `unusual` and `server`, `routes`, `answering`, `connections`.
"""
