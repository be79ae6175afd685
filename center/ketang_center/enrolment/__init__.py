"""How devices get in: codes, claims, certificates, and how they are thrown out again."""
