"""What can go wrong when a provider is to vouch for somebody; without Authlib, to load fast."""

from ketang_contract.errors import KetangError


class NoProvider(KetangError):
    """The provider does not answer, or not as one. Caller: offer the password, try again later."""


class NotVouched(KetangError):
    """The answer that came back is not one the provider gave to this browser's question."""
