"""The centre's own certificate at the broker renews itself: the authority is at hand.

Key and certificate lie in one file, so that one rename swaps both. Where the settings name two
files, a person renews them (``ketang provision status`` says when).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from ketang_contract.errors import BadInput
from ketang_provisioning.certificates import Authority, certificate_pem, common_name
from ketang_provisioning.keys import make_ec, private_pem, write_private

LASTS = timedelta(days=397)


class OwnIdentity:
    """``keep`` it often; ``renewed`` is called when there is a new pair to show."""

    def __init__(self, pair: Path, authority: Authority, renewed: Callable[[], None]) -> None:
        self._pair, self._authority, self._renewed = pair, authority, renewed

    def keep(self, at_ms: int) -> bool:
        """Renew when less than a third of its life is left; true when it did.

        One that begins in the future was made when the clock was ahead: no broker takes it now.

        Raises:
            BadInput: the file holds no certificate.
            OSError: it cannot be written.
        """
        now = datetime.fromtimestamp(at_ms / 1000, UTC)
        try:
            (held, *_) = x509.load_pem_x509_certificates(self._pair.read_bytes())
        except ValueError:
            raise BadInput(f"{self._pair}: holds no certificate") from None
        life = held.not_valid_after_utc - held.not_valid_before_utc
        if held.not_valid_before_utc <= now and held.not_valid_after_utc - now > life / 3:
            return False
        key = make_ec()
        made = self._authority.issue_client(
            common_name(held), key.public_key(), now=now, lasts=LASTS
        )
        write_private(self._pair, private_pem(key, None) + certificate_pem(made))
        self._renewed()
        return True
