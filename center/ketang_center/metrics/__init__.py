"""From raw rows to figures: pure functions, and the one worker that keeps them up to date."""
