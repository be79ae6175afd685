"""How often each situation came about in effect in the searches of this process."""

from collections import Counter

MUST_REACH = ("frozen disk", "clone", "re-image", "restore", "shard trade")
REACHED: Counter[str] = Counter()
