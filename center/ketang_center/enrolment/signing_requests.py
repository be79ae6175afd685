"""Certificate signing requests (PKCS #10, RFC 2986): what we take from one, and nothing more."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID

from ketang_contract.errors import Refused


def possessed_key(csr: str, binding: str) -> ec.EllipticCurvePublicKey:
    """Return the public key whose owner signed this request for this very conversation.

    Subject, extensions and all else that is asked for are ignored.

    Raises:
        Refused: ``bad_request``: no request, no P-256 key, or not signed by it; ``bad_nonce``: made
            for another conversation.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        signed = request.is_signature_valid
        digest = request.signature_hash_algorithm
        said = request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
    except x509.AttributeNotFound:
        raise Refused("bad_nonce", "no challenge password") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as problem:
        raise Refused("bad_request", f"no signing request: {problem}"[:120]) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused("bad_request", "the key is not P-256")
    if not signed or not isinstance(digest, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise Refused("bad_request", "not signed by its own key")
    if said != binding.encode():
        raise Refused("bad_nonce", "made for another conversation")
    return key


def public_pem(key: ec.EllipticCurvePublicKey) -> str:
    """Write a public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def certified_key(pem: str) -> str:
    """Return the public key of a certificate, as PEM."""
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("bad_request", "the certificate's key is not P-256")
    return public_pem(key)
