from .arithmetic.linear import LinearPlan, apply_linear, dct_filters, plan_linear
from .arithmetic.obfuscators import Obfuscators, build_obfuscators
from .arithmetic.packing import DensePacking, SlotPacking
from .arithmetic.paillier import add_ciphertexts, add_plaintext, decrypt_batch, encrypt_batch, rerandomise
from .artifact.fields import Protection
from .artifact.reading import Artifact, open_artifact
from .decrypt import decrypt_images
from .encryption.ciphertexts import write_ciphertext_artifact
from .inner_product.single import InnerHead, InnerPacking, decrypt_logits, encrypt_features
from .keys.keyfile import load_private, load_public, save_private, save_public
from .keys.keypair import PrivateKey, PublicKey, generate_keypair
from .signing import check_signed, load_signing_key, make_signing_key, sign
from .workers.parallel import Executor

__all__ = [
    "Artifact",
    "DensePacking",
    "Executor",
    "InnerHead",
    "InnerPacking",
    "LinearPlan",
    "Obfuscators",
    "PrivateKey",
    "Protection",
    "PublicKey",
    "SlotPacking",
    "add_ciphertexts",
    "add_plaintext",
    "apply_linear",
    "build_obfuscators",
    "check_signed",
    "dct_filters",
    "decrypt_batch",
    "decrypt_images",
    "decrypt_logits",
    "encrypt_batch",
    "encrypt_features",
    "generate_keypair",
    "load_private",
    "load_public",
    "load_signing_key",
    "make_signing_key",
    "open_artifact",
    "plan_linear",
    "rerandomise",
    "save_private",
    "save_public",
    "sign",
    "write_ciphertext_artifact",
]
