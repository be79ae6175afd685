"""A region's first trust document, its two configuration keys, and keys beside them."""

from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ketang_contract.trust import Purpose, TrustedKey, read_accepted
from ketang_provisioning import region
from ketang_provisioning.keys import key_id, public_pem

NOW_S = int(datetime.now(UTC).timestamp())
PASSPHRASES = region.new_passphrases()
PLAN = region.Plan(region_name="A", center_hosts=("c.example",), broker_hosts=("b.example",))
FILES = region.make(PLAN, PASSPHRASES, now=datetime.now(UTC))
ONE, TWO = (
    load_pem_private_key(FILES[f"offline/{name}.key"], PASSPHRASES[name].encode())
    for name in ("config-1", "config-2")
)


def trusting(*added):
    trust = read_accepted(FILES["center/trust.json"])
    return replace(trust, keys=(*trust.keys, *added))


def named(key, scope, holder="head", epoch=1, until_s=NOW_S + 10**6, purpose=Purpose.CONFIG):
    public = key.public_key()
    return TrustedKey(
        key_id(public), public_pem(public), purpose, scope, holder, NOW_S - 60, until_s, epoch
    )


TRUST = trusting()
