"""The device's durable buffer: SQLite, one owner, capped, healed without a person."""
