"""What comes down: configuration, judged and tried, and taken back when it does harm."""
