"""One profile per kind of device."""
