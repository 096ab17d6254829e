"""The whole service under kills and troubles of every kind, and an audit of what became of its promises.

    make test-chaos                       # a thousand jobs, three hundred kills
    make test-chaos CHAOS_JOBS=100 CHAOS_SEED=7

`unit` starts the service again whenever it dies, as systemd would; `orders` says what is asked for, and what
must come; `portal` asks; `trouble` makes trouble, by the seed; `audit` looks at what became of it all; `run`
joins them.
"""
